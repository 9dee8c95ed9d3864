//! The chapter on JSON names every key of every report, and no other.
//!
//! A heading of the second order names an object; the table below has its keys: name, type, meaning. The words of a
//! type are `number`, `string`, `boolean`, `null`, `list of`, `map of`, `optional`, and the names of objects, in
//! capitals.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{CHAPTERS, Document, markdown, sources};
use crate::host;

const CHAPTER: &str = "json.md";
const RECORDING: &str = "tests/recordings/flannel-vxlan-6.12.otr";
/// Objects, with commands that print them and golden files that hold them.
const SAMPLES: &[(&str, &[&str], &[&str])] = &[
    ("REPORT", &["report"], &["report.json", "report-layer.json"]),
    ("DIFF", &["diff"], &["diff.json"]),
    ("TAIL", &["tail"], &["tail.json"]),
    ("WHATIF", &["what-if"], &["what-if.json"]),
    ("COMPARE", &[], &["compare.json"]),
];

/// The documented keys of each object, with their types.
type Objects<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>;

/// A sentence for each key that is not documented, or documented and not there.
///
/// # Errors
///
/// A report cannot be made or read.
pub fn check(documents: &[Document], program: &Path) -> Result<Vec<String>> {
    let path = format!("{CHAPTERS}/{CHAPTER}");
    let chapter = documents.iter().find(|document| document.path == path);
    let objects = objects(&chapter.with_context(|| format!("{path} is missing"))?.text);
    let mut seen = Seen { objects: &objects, keys: BTreeMap::new(), failures: Vec::new() };
    for (object, commands, files) in SAMPLES {
        for command in *commands {
            let two = if *command == "diff" { 2 } else { 1 };
            let mut run = host::command(program);
            run.arg(command).args(vec![RECORDING; two]).args(["--format", "json"]);
            let text = host::output(run.current_dir(host::workspace()))?;
            seen.walk(&serde_json::from_str(&text)?, object, command);
        }
        for file in *files {
            let place = format!("tests/golden/{file}");
            let text = fs::read_to_string(host::workspace().join(&place))
                .with_context(|| format!("cannot read {place}"))?;
            let mut value: Value = serde_json::from_str(&text)?;
            // The golden report's traffic is made up; the recording's is not.
            if let Some(traffic) = value.get_mut("traffic") {
                *traffic = Value::Array(Vec::new());
            }
            seen.walk(&value, object, &place);
        }
    }
    let known = seen.keys;
    let mut failures = seen.failures;
    failures.extend(never_seen(&objects, &known, &host::workspace())?);
    failures.sort();
    failures.dedup();
    Ok(failures.into_iter().map(|why| format!("{path}: {why}")).collect())
}

fn objects(text: &str) -> Objects<'_> {
    let mut objects = Objects::new();
    let mut object = "";
    for line in markdown::lines(text).filter(|line| line.code.is_none()) {
        if let Some(heading) = line.text.strip_prefix("## ") {
            object = heading.trim();
        } else if let Some([key, kind, _]) = markdown::cells(line.text).as_deref()
            && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
        {
            objects.entry(object).or_default().insert(key, kind);
        }
    }
    objects
}

/// The object that a type names.
fn object_of(kind: &str) -> Option<&str> {
    let is_name = |word: &&str| word.len() > 2 && word.chars().all(|letter| letter.is_ascii_uppercase());
    kind.split(|letter: char| !letter.is_ascii_alphanumeric()).find(is_name)
}

struct Seen<'a> {
    objects: &'a Objects<'a>,
    /// How often which keys of which objects were there.
    keys: BTreeMap<(String, String), u32>,
    failures: Vec<String>,
}

impl Seen<'_> {
    fn walk(&mut self, value: &Value, object: &str, place: &str) {
        let Some(known) = self.objects.get(object) else {
            self.failures.push(format!("there is no table of {object}"));
            return;
        };
        let Some(map) = value.as_object() else {
            self.failures.push(format!("a {object} of {place} is no object"));
            return;
        };
        for (key, kind) in known {
            if !map.contains_key(*key) && !kind.contains("optional") {
                self.failures.push(format!("{object} in {place} has no `{key}`"));
            }
        }
        for (key, value) in map {
            match known.get(key.as_str()) {
                None => self.failures.push(format!("`{key}` of {object} is not documented")),
                Some(kind) => {
                    *self.keys.entry((object.to_owned(), key.clone())).or_default() += 1;
                    self.value(value, kind, &format!("`{key}` of {object} in {place}"));
                }
            }
        }
    }

    fn value(&mut self, value: &Value, kind: &str, place: &str) {
        let fits = match value {
            Value::Null => kind.contains("null"),
            Value::Bool(_) => kind.contains("boolean"),
            Value::Number(_) => kind.contains("number"),
            Value::String(_) => kind.contains("string"),
            Value::Array(_) => kind.contains("list of"),
            Value::Object(_) => kind.contains("map of") || object_of(kind).is_some(),
        };
        if !fits {
            self.failures.push(format!("{place} is documented as {kind}"));
        }
        match (value, object_of(kind)) {
            (Value::Array(list), Some(object)) => {
                list.iter().for_each(|value| self.walk(value, object, place))
            }
            (Value::Object(map), Some(object)) if kind.contains("map of") => {
                map.values().for_each(|value| self.walk(value, object, place));
            }
            (Value::Object(_), Some(object)) => self.walk(value, object, place),
            _ => {}
        }
    }
}

/// Documented keys that no sample has: the source must have a field of that name, and they must be optional.
fn never_seen(
    objects: &Objects<'_>,
    seen: &BTreeMap<(String, String), u32>,
    workspace: &Path,
) -> Result<Vec<String>> {
    let sources = sources::all(workspace)?;
    let mut failures = Vec::new();
    for (object, keys) in objects {
        for key in keys.keys().filter(|key| !seen.contains_key(&(object.to_string(), key.to_string()))) {
            let field = [format!("{key}: "), format!("rename = \"{key}\"")];
            if !sources.iter().any(|source| field.iter().any(|field| source.contains(field))) {
                failures.push(format!("nothing has `{key}` of {object}"));
            }
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "# JSON\n## REPORT\n| key | type | meaning |\n|---|---|---|\n| `a` | number | x |\n\
                        | `b` | list of [PART](#part) | x |\n| `c` | string or null, optional | x |\n\
                        ## PART\n| `d` | map of number | x |\n";

    fn failures(value: &Value) -> Vec<String> {
        let objects = objects(TEXT);
        let mut seen = Seen { objects: &objects, keys: BTreeMap::new(), failures: Vec::new() };
        seen.walk(value, "REPORT", "sample");
        seen.failures
    }

    #[test]
    fn keys_and_types_are_compared() {
        assert!(failures(&json!({ "a": 1, "b": [{ "d": { "x": 1 } }], "c": null })).is_empty());
        assert!(failures(&json!({ "a": 1, "b": [] })).is_empty());
        assert_eq!(failures(&json!({ "a": "1", "b": [{}] })).len(), 2);
        assert_eq!(failures(&json!({ "b": [], "e": 1 })).len(), 2);
    }
}
