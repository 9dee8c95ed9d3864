//! README.md and the book (`docs/`): what is generated in them, and the checks that what they say holds.

mod commands;
mod links;
mod markdown;
mod schema;
mod sections;
mod sources;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{host, tool::Tool};

/// What builds the book.
const MDBOOK: Tool = Tool { name: "mdbook", version: "0.5", features: Some("search") };
/// The book's chapters, from the workspace's root.
const CHAPTERS: &str = "docs/src";
/// Documents beside the book; those that are not there are not checked.
const OTHERS: &[&str] = &["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md"];
/// README.md is for somebody who has ten minutes.
const README_LINES: usize = 170;
/// The picture in README.md, and what prints it.
const PICTURE: &str = "docs/src/flame-vxlan.svg";
const PICTURE_COMMAND: &[&str] =
    &["report", "tests/recordings/flannel-vxlan-6.12.otr", "--format", "svg", "--compact"];
/// Phrases about plans that a reader does not have.
const UNWANTED: &[&str] = &["asked:", "aimed at", "differs from the plan", "TODO", "FIXME"];

/// A document.
pub struct Document {
    /// From the workspace's root, with `/`.
    pub path: String,
    pub text: String,
}

impl Document {
    fn read(path: &str) -> Result<Document> {
        let file = host::workspace().join(path);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Document { path: path.to_owned(), text })
    }

    fn is_chapter(&self) -> bool {
        self.path.starts_with(CHAPTERS)
    }
}

/// Writes the generated sections anew.
///
/// # Errors
///
/// The program does not build, a section cannot be generated, or a file cannot be written.
pub fn write() -> Result<()> {
    let program = program()?;
    for document in documents()? {
        let text = sections::generate(&document, &program)?;
        let file = host::workspace().join(&document.path);
        if host::write_if_changed(&file, text.as_bytes())? {
            host::progress(&format!("{} written", file.display()));
        }
    }
    let file = host::workspace().join(PICTURE);
    if host::write_if_changed(&file, picture(&program)?.as_bytes())? {
        host::progress(&format!("{} written", file.display()));
    }
    Ok(())
}

fn picture(program: &Path) -> Result<String> {
    let printed = host::output(host::command(program).args(PICTURE_COMMAND).current_dir(host::workspace()))?;
    Ok(printed + "\n")
}

/// Checks the documents: generated sections, commands, links, messages, bounds, JSON keys; then builds the book.
///
/// # Errors
///
/// Says everything that does not hold.
pub fn check() -> Result<()> {
    let program = program()?;
    let documents = documents()?;
    let mut failures = Vec::new();
    for document in &documents {
        if sections::generate(document, &program)? != document.text {
            failures.push(format!("{}: generated sections are out of date", document.path));
        }
        failures.extend(unwanted(document));
        failures.extend(commands::check(document, &program)?);
    }
    failures.extend(readme(&documents));
    if fs::read_to_string(host::workspace().join(PICTURE)).unwrap_or_default() != picture(&program)? {
        failures.push(format!("{PICTURE} is out of date"));
    }
    failures.extend(options(&documents, &program)?);
    failures.extend(links::check(&documents, &host::workspace()));
    failures.extend(sources::check(&documents, &host::workspace())?);
    failures.extend(schema::check(&documents, &program)?);
    if !failures.is_empty() {
        bail!("{}; `cargo xtask docs` writes the generated sections", failures.join("; "));
    }
    build()
}

/// Builds the book into `target/book`.
///
/// # Errors
///
/// mdBook cannot be had, fails, or warns.
pub fn build() -> Result<()> {
    let folder = host::target().join("book");
    let mut build = host::command(MDBOOK.find()?);
    build.arg("build").arg(host::workspace().join("docs")).arg("--dest-dir").arg(&folder);
    let output = build.output().context("cannot start mdbook")?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    if !output.status.success() || warns(&said) {
        bail!("mdbook: {}", said.trim());
    }
    host::progress(&format!("the book is {}", folder.join("index.html").display()));
    Ok(())
}

fn warns(said: &str) -> bool {
    said.lines().any(|line| line.contains("WARN") || line.contains("ERROR"))
}

fn program() -> Result<PathBuf> {
    Ok(host::build_binaries()?.join("overlay-trace"))
}

/// README.md and the like, and the book's chapters.
fn documents() -> Result<Vec<Document>> {
    let workspace = host::workspace();
    let mut paths: Vec<String> =
        OTHERS.iter().filter(|name| workspace.join(name).is_file()).map(|name| name.to_string()).collect();
    paths.extend(chapters(&workspace)?);
    paths.iter().map(|path| Document::read(path)).collect()
}

fn chapters(workspace: &Path) -> Result<Vec<String>> {
    let folder = workspace.join(CHAPTERS);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            paths.push(format!("{CHAPTERS}/{name}"));
        }
    }
    paths.sort();
    Ok(paths)
}

fn unwanted(document: &Document) -> Vec<String> {
    let is_word = |at: usize| !document.text[..at].ends_with(char::is_alphanumeric);
    let is_there = |words: &str| document.text.match_indices(words).any(|(at, _)| is_word(at));
    let words = UNWANTED.iter().filter(|words| is_there(words));
    words.map(|words| format!("{} says `{words}`", document.path)).collect()
}

fn readme(documents: &[Document]) -> Option<String> {
    let readme = documents.iter().find(|document| document.path == "README.md")?;
    let lines = readme.text.lines().count();
    (lines > README_LINES).then(|| format!("README.md has {lines} lines; the limit is {README_LINES}"))
}

/// Every option that README.md or a chapter names in `code` is one of the program's or of `cargo xtask`. Other documents
/// are about other programs too.
fn options(documents: &[Document], program: &Path) -> Result<Vec<String>> {
    let help = host::output(host::command(program).args(["book", "commands"]))? + &commands::of_xtask();
    let known: Vec<&str> = markdown::options(&help).collect();
    let mut failures = Vec::new();
    for document in documents.iter().filter(|document| document.is_chapter() || document.path == "README.md")
    {
        for code in markdown::inline_code(&document.text).filter(|code| code.starts_with("--")) {
            let Some(option) = markdown::options(code).next() else { continue };
            if !known.contains(&option) {
                failures.push(format!("{}: no command has the option `{option}`", document.path));
            }
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of chapters, in [`CHAPTERS`].
    const SUMMARY: &str = "SUMMARY.md";

    fn document(text: &str) -> Document {
        Document { path: "README.md".into(), text: text.into() }
    }

    #[test]
    fn a_phrase_about_a_plan_and_a_long_readme_are_failures() {
        assert_eq!(unwanted(&document("1.13 times (asked: 1.06)")).len(), 1);
        assert!(unwanted(&document("it is claimed at once")).is_empty());
        assert!(readme(&[document(&"line\n".repeat(README_LINES))]).is_none());
        assert!(readme(&[document(&"line\n".repeat(README_LINES + 1))]).is_some());
    }

    #[test]
    fn a_warning_of_mdbook_is_found() {
        assert!(warns(" INFO Book building has started\n WARN unclosed HTML tag `<b>`\n"));
        assert!(!warns(" INFO Book building has started\n INFO Running the html backend\n"));
    }

    #[test]
    fn every_chapter_is_in_the_summary() -> Result<()> {
        let summary = Document::read(&format!("{CHAPTERS}/{SUMMARY}"))?;
        for chapter in chapters(&host::workspace())? {
            let name = chapter.rsplit('/').next().unwrap_or_default();
            assert!(name == SUMMARY || summary.text.contains(&format!("({name})")), "{chapter}");
        }
        Ok(())
    }
}
