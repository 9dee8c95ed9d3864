//! The licence texts of the crates that are linked into the program: they ask to be passed on with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{build_ebpf, host};

/// How the names of the files begin that hold such texts, in lower case.
const NAMES: &[&str] = &["license", "licence", "copying", "copyright", "notice", "unlicense"];
const RULE: &str = "--------------------------------------------------------------------------------\n";

/// What `cargo metadata` says, as far as it is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    /// None for a package of this workspace.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// None for what is linked; `dev` and `build` are not.
    kind: Option<String>,
}

/// The crates that are linked into the program, or into the kernel programs that it holds, each with its licence; then
/// each text once, with the crates that have it.
///
/// # Errors
///
/// Cargo does not tell what is linked, or a crate names no licence.
pub fn third_party() -> Result<String> {
    let workspace = host::workspace();
    let native = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut crates = BTreeMap::new();
    for (folder, name, platform) in [
        (workspace.clone(), "overlay-trace", native.as_str()),
        (workspace.join("overlay-trace-ebpf"), "overlay-trace-ebpf", build_ebpf::TARGET),
    ] {
        let said = host::output(
            host::command("cargo")
                .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", platform])
                .current_dir(folder),
        )?;
        let metadata: Metadata =
            serde_json::from_str(&said).context("cannot read what cargo metadata says")?;
        for package in metadata.linked(name)? {
            crates.insert(package.title()?, package.texts()?);
        }
    }
    Ok(document(&crates))
}

impl Package {
    fn title(&self) -> Result<String> {
        let Package { name, version, license, .. } = self;
        let license =
            license.as_ref().with_context(|| format!("the crate {name} {version} names no licence"))?;
        Ok(format!("{name} {version} ({license})"))
    }

    /// The licence texts in its folder.
    fn texts(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for file in super::files(self.manifest_path.parent().unwrap_or(Path::new("/")))? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if NAMES.iter().any(|prefix| name.starts_with(prefix)) {
                let text =
                    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                found.push(text.trim().replace("\r\n", "\n"));
            }
        }
        Ok(found)
    }
}

impl Metadata {
    /// The packages from outside of the workspace that are linked into a package's program.
    fn linked(&self, name: &str) -> Result<Vec<&Package>> {
        let root = self.packages.iter().find(|package| package.name == name && package.source.is_none());
        let root = root.with_context(|| format!("the workspace has no package {name}"))?;
        let nodes: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|node| (&*node.id, node)).collect();
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![&*root.id]);
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                let deps = nodes.get(id).map_or(&[][..], |node| &node.deps);
                let is_linked = |dep: &&Dependency| dep.dep_kinds.iter().any(|kind| kind.kind.is_none());
                waiting.extend(deps.iter().filter(is_linked).map(|dep| &*dep.pkg));
            }
        }
        let is_linked = |package: &&Package| package.source.is_some() && seen.contains(&*package.id);
        Ok(self.packages.iter().filter(is_linked).collect())
    }
}

fn document(crates: &BTreeMap<String, Vec<String>>) -> String {
    let mut by_text: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut document = "overlay-trace is linked with these crates of crates.io:\n\n".to_owned();
    for (name, texts) in crates {
        document += &format!("  {name}\n");
        for text in texts {
            by_text.entry(text).or_default().push(name);
        }
    }
    for (text, names) in by_text {
        document += &format!("\n{RULE}{}\n{RULE}\n{text}\n", names.join("\n"));
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_or_tests_is_not() {
        let package = |name: &str, source: &str| {
            format!(
                r#"{{"id":"{name}","name":"{name}","version":"1.0.0","license":"MIT","manifest_path":"/c/{name}/Cargo.toml","source":{source}}}"#
            )
        };
        let dep = |name: &str, kind: &str| format!(r#"{{"pkg":"{name}","dep_kinds":[{{"kind":{kind}}}]}}"#);
        let text = format!(
            r#"{{"packages":[{},{},{},{},{}],"resolve":{{"nodes":[
                {{"id":"tool","deps":[{},{},{}]}},{{"id":"own","deps":[{}]}}]}}}}"#,
            package("tool", "null"),
            package("own", "null"),
            package("linked", r#""registry""#),
            package("tester", r#""registry""#),
            package("builder", r#""registry""#),
            dep("own", "null"),
            dep("tester", r#""dev""#),
            dep("builder", r#""build""#),
            dep("linked", "null"),
        );
        let metadata: Metadata = serde_json::from_str(&text).unwrap();
        let names: Vec<&str> =
            metadata.linked("tool").unwrap().iter().map(|package| &*package.name).collect();
        assert_eq!(names, ["linked"]);
        assert!(metadata.linked("another").is_err());
    }

    #[test]
    fn a_text_that_two_crates_have_comes_once() {
        let crates = BTreeMap::from([
            ("a 1.0.0 (MIT)".to_owned(), vec!["the text".to_owned()]),
            ("b 2.0.0 (MIT)".to_owned(), vec!["the text".to_owned(), "another".to_owned()]),
        ]);
        let document = document(&crates);
        assert_eq!(document.matches("the text").count(), 1);
        assert!(document.contains("a 1.0.0 (MIT)\nb 2.0.0 (MIT)\n") && document.contains("\nanother\n"));
    }

    #[test]
    fn the_programs_own_dependencies_have_texts() {
        let text = third_party().unwrap();
        assert!(text.contains("  aya 0.14.0 (MIT OR Apache-2.0)\n"), "{text:.500}");
        assert!(text.contains("  aya-ebpf 0.2.1 (MIT OR Apache-2.0)\n"), "it is in the kernel programs");
        assert!(text.contains("Permission is hereby granted, free of charge"));
        assert!(!text.contains("  proptest "), "it is not linked");
    }
}
