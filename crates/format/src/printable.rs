//! Text of strangers, made harmless for people.
//!
//! Devices, namespaces, processes and nodes are named by whoever creates them, and a recording by whoever wrote it. In a
//! terminal an escape sequence in such a name clears lines or forges them; a newline begins a line of its own; a
//! bidirectional override turns the text behind it round; in XML a control character makes the document invalid. So names
//! are made printable where they are taken in: by the recorder, and again by the reader, who need not trust the recorder.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The most characters of a text from a recording. No honest one comes near; tables are as wide as their longest cell.
const TEXT_MAX: usize = 4096;
/// The most characters of a device's or a namespace's name: file names have 255 bytes at most, devices 15.
pub(crate) const NAME_MAX: usize = 300;

/// The text with each character that does not print as itself written as an escape: `\x1b`, `\u{202e}`. These are control
/// characters (C0, DEL, C1), line separators, bidirectional and other invisible format characters, and combining marks,
/// which would change their neighbours. Applied twice it changes nothing.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            char if is_printable(char) => out.push(char),
            char if (char as u32) < 0x100 => out += &format!("\\x{:02x}", char as u32),
            char => out.extend(char.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// Bytes as text: what is no UTF-8 is replaced, and the rest made printable.
pub fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes)).into_owned()
}

/// The standard library knows which characters print: it escapes the others, and quotes and backslashes, for `{:?}`.
fn is_printable(char: char) -> bool {
    matches!(char, '"' | '\'' | '\\') || char.escape_debug().len() == 1
}

/// The text, cut behind `max` characters.
pub(crate) fn cut(text: &mut String, max: usize) {
    if let Some((at, _)) = text.char_indices().nth(max) {
        text.truncate(at);
        text.push('…');
    }
}

/// Makes every text in a JSON value printable, keys included, and cuts what is too long.
pub(crate) fn clean(value: &mut Value) {
    match value {
        Value::String(text) => clean_text(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(object) => {
            if !object.keys().all(|key| key.chars().all(is_printable)) {
                let old = std::mem::take(object);
                *object = old
                    .into_iter()
                    .map(|(key, value)| (printable(&key).into_owned(), value))
                    .collect::<Map<_, _>>();
            }
            object.values_mut().for_each(clean);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn clean_text(text: &mut String) {
    cut(text, TEXT_MAX);
    if let Cow::Owned(clean) = printable(text) {
        *text = clean;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_print_is_escaped_and_the_rest_stays() {
        for plain in ["eth0", "flannel.1", "pod-a's \"x\\y\"", "größe", "日本", "µs …", "=1+2"] {
            assert!(matches!(printable(plain), Cow::Borrowed(text) if text == plain), "{plain}");
        }
        for (hostile, shown) in [
            ("\x1b[31m NL", "\\x1b[31m NL"),
            ("a\nlosses 9", "a\\x0alosses 9"),
            ("\r\0\x7f", "\\x0d\\x00\\x7f"),
            ("\u{9b}31m", "\\x9b31m"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("\u{200b}\u{2028}\u{feff}\u{ffff}", "\\u{200b}\\u{2028}\\u{feff}\\u{ffff}"),
        ] {
            assert_eq!(printable(hostile), shown);
            assert_eq!(printable(shown), shown);
        }
        assert_eq!(printable_bytes(b"a\xff\n"), "a\u{fffd}\\x0a");
    }

    #[test]
    fn every_text_of_a_value_is_cleaned() {
        let mut value = serde_json::json!({"a\n": ["\x1b", {"b": "\u{202e}"}], "n": 1.5});
        clean(&mut value);
        assert_eq!(value, serde_json::json!({"a\\x0a": ["\\x1b", {"b": "\\u{202e}"}], "n": 1.5}));
        let mut long = Value::String("x".repeat(TEXT_MAX + 1));
        clean(&mut long);
        assert_eq!(long.as_str().unwrap().chars().count(), TEXT_MAX + 1);
        assert!(long.as_str().unwrap().ends_with('…'));
    }
}
