//! Every link to a file or a heading leads somewhere.

use std::{collections::HashMap, fs, path::Path};

use super::{CHAPTERS, Document, markdown};

/// A sentence for each link that leads nowhere.
pub fn check(documents: &[Document], workspace: &Path) -> Vec<String> {
    let anchors: HashMap<&str, Vec<String>> = documents
        .iter()
        .map(|document| (document.path.as_str(), markdown::anchors(&document.text)))
        .collect();
    let mut failures = Vec::new();
    for document in documents {
        for (number, link) in links(&document.text) {
            if let Some(why) = lack(document, link, &anchors, workspace) {
                failures.push(format!("{}:{number}: the link {link} {why}", document.path));
            }
        }
    }
    failures
}

fn lack(
    document: &Document,
    link: &str,
    anchors: &HashMap<&str, Vec<String>>,
    workspace: &Path,
) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { document.path.clone() } else { beside(&document.path, file) };
    if fs::metadata(workspace.join(&path)).is_err() {
        return Some("leads to no file".into());
    }
    if document.is_chapter() && !path.starts_with(CHAPTERS) {
        return Some("leads out of the book".into());
    }
    let known = anchors.get(path.as_str());
    let is_there = |anchor: &str| known.is_some_and(|known| known.iter().any(|known| known == anchor));
    anchor.filter(|anchor| !is_there(anchor)).map(|anchor| format!("leads to no heading #{anchor}"))
}

/// A path relative to a document's folder, from the workspace's root.
fn beside(document: &str, file: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The targets of links and pictures outside of code, with their lines' numbers.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for line in markdown::lines(text).filter(|line| line.code.is_none()) {
        // Backquotes: every second part is code.
        let mut rest = line.text;
        while let Some((before, after)) = rest.split_once("](") {
            let Some((target, behind)) = after.split_once(')') else { break };
            if before.matches('`').count().is_multiple_of(2) {
                links.push((line.number, target.split(' ').next().unwrap_or(target)));
            }
            rest = behind;
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str, text: &str) -> Document {
        Document { path: path.into(), text: text.into() }
    }

    #[test]
    fn links_to_nowhere_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(CHAPTERS)).unwrap();
        for name in ["README.md", "docs/src/a.md", "docs/src/b.md"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let check = |text: &str| {
            let documents = [document("docs/src/a.md", text), document("docs/src/b.md", "# Two words\n")];
            check(&documents, folder.path()).len()
        };
        assert_eq!(
            check("[b](b.md) [b](b.md#two-words) [x](https://example.org) ![p](b.md)\n## c\n[c](#c)"),
            0
        );
        assert_eq!(check("[b](c.md) [b](b.md#three) [c](#c)"), 3);
        assert_eq!(check("[out](../../README.md)"), 1);
        assert_eq!(check("`[b](c.md)`\n\n    [b](c.md)\n"), 0);
    }
}
