//! As much of Markdown as the checks need.

/// A line of a document.
pub struct Line<'a> {
    /// Its number, from 1.
    pub number: usize,
    pub text: &'a str,
    /// Whether it is in a code block, and the block's language.
    pub code: Option<&'a str>,
}

/// The lines of a document; the fences of code blocks are left out. A block that is set in by four spaces has no
/// language.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut fence: Option<&str> = None;
    let mut after_blank = true;
    let mut indented = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let number = number + 1;
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language.trim()) };
            return None;
        }
        if fence.is_none() {
            indented = line.starts_with("    ") && (after_blank || indented);
            after_blank = line.trim().is_empty();
        }
        let code = fence.or(indented.then_some(""));
        Some(Line { number, text: line, code })
    })
}

/// What stands between single backquotes, outside of code blocks.
pub fn inline_code(text: &str) -> impl Iterator<Item = &str> {
    lines(text).filter(|line| line.code.is_none()).flat_map(|line| line.text.split('`').skip(1).step_by(2))
}

/// The long options in a text.
pub fn options(text: &str) -> impl Iterator<Item = &str> {
    let is_end = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '-');
    text.split(is_end).filter(|word| word.len() > 2 && word.starts_with("--"))
}

/// The identifiers of a document's headings, as mdBook and GitHub make them.
pub fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in lines(text).filter(|line| line.code.is_none()) {
        let Some(heading) = line.text.strip_prefix('#') else { continue };
        let id = identifier(heading.trim_start_matches('#').trim());
        let taken = anchors.iter().filter(|anchor| base(anchor) == id).count();
        anchors.push(if taken == 0 { id } else { format!("{id}-{taken}") });
    }
    anchors
}

fn base(anchor: &str) -> &str {
    match anchor.rsplit_once('-') {
        Some((base, number)) if number.parse::<u32>().is_ok() => base,
        _ => anchor,
    }
}

fn identifier(heading: &str) -> String {
    let letter = |letter: char| match letter {
        _ if letter.is_alphanumeric() || matches!(letter, '-' | '_') => Some(letter.to_ascii_lowercase()),
        _ if letter.is_whitespace() => Some('-'),
        _ => None,
    };
    heading.chars().filter_map(letter).collect()
}

/// The cells of a table's row.
pub fn cells(line: &str) -> Option<Vec<&str>> {
    Some(line.strip_prefix('|')?.trim_end().strip_suffix('|')?.split('|').map(str::trim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# A `b`: c\n\ntext `one` and `two`\n\n    set in `x`\n\n```sh\n# no heading\n```\n## A b c\n";

    #[test]
    fn code_is_told_from_text() {
        let code: Vec<_> = lines(TEXT).filter(|line| line.code.is_some()).map(|line| line.number).collect();
        assert_eq!(code, [5, 8]);
        assert_eq!(inline_code(TEXT).collect::<Vec<_>>(), ["b", "one", "two"]);
    }

    #[test]
    fn headings_have_identifiers() {
        assert_eq!(anchors(TEXT), ["a-b-c", "a-b-c-1"]);
    }

    #[test]
    fn options_end_where_their_names_do() {
        assert_eq!(options("--tail-above=p99, --x <N> -- -o").collect::<Vec<_>>(), ["--tail-above", "--x"]);
    }
}
