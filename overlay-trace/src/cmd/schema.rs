//! `schema`: the JSON schema of an output. It is made of the book's chapter on JSON, which `cargo xtask docs --check`
//! compares with what the commands print: keys and types are written down once.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::output;

/// A heading of the second order names an object; the table below has its keys: name, type, meaning.
const CHAPTER: &str = include_str!("../../../docs/src/json.md");
/// The number that every output has as `schema`.
const VERSION: u32 = 1;

/// An output in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// `report --format json`
    Report,
    /// `diff --format json`
    Diff,
    /// `tail --format json`
    Tail,
    /// `what-if --format json`
    WhatIf,
    /// `lab compare`, the file compare.json
    Compare,
    /// `lab run --json` and `traffic … --json`, of each line
    Traffic,
}

impl Output {
    /// Its object in the chapter.
    fn object(self) -> &'static str {
        match self {
            Output::Report => "REPORT",
            Output::Diff => "DIFF",
            Output::Tail => "TAIL",
            Output::WhatIf => "WHATIF",
            Output::Compare => "COMPARE",
            Output::Traffic => "TRAFFIC",
        }
    }
}

#[derive(clap::Args)]
pub struct Schema {
    /// Output whose JSON schema is printed
    #[arg(value_enum)]
    name: Output,
}

impl Schema {
    pub fn run(self) -> Result<ExitCode> {
        let mut text = serde_json::to_vec_pretty(&schema(self.name)?)?;
        text.push(b'\n');
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The schema of an output, in the draft 2020-12.
fn schema(output: Output) -> Result<Value> {
    let object = output.object();
    let all = objects()?;
    let mut wanted = vec![object.to_owned()];
    let mut definitions = Map::new();
    while let Some(name) = wanted.pop() {
        if definitions.contains_key(&name) {
            continue;
        }
        let definition = all.get(&name).with_context(|| format!("the chapter has no table of {name}"))?;
        wanted.extend(references(definition));
        definitions.insert(name, definition.clone());
    }
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:overlay-trace:{}:{VERSION}", object.to_lowercase()),
        "title": format!("overlay-trace {}, version {VERSION}: keys are added, never changed or removed", object.to_lowercase()),
        "$ref": format!("#/$defs/{object}"),
        "$defs": definitions,
    }))
}

/// The objects that a definition names.
fn references(definition: &Value) -> Vec<String> {
    match definition {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Every object of the chapter, by name.
fn objects() -> Result<Map<String, Value>> {
    let mut objects = Map::new();
    let mut object = String::new();
    for line in CHAPTER.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            object = heading.trim().to_owned();
        } else if let Some((key, kind, meaning)) = row(line) {
            let definition = objects
                .entry(object.clone())
                .or_insert_with(|| json!({ "type": "object", "properties": {}, "required": [] }));
            let mut property = type_of(kind.trim_end_matches(", optional"))
                .with_context(|| format!("the type of `{key}` of {object}"))?;
            if key == "schema" {
                property["const"] = VERSION.into();
            }
            property["description"] = meaning.into();
            definition["properties"][key] = property;
            if let Some(required) =
                definition["required"].as_array_mut().filter(|_| !kind.ends_with("optional"))
            {
                required.push(key.into());
            }
        }
    }
    Ok(objects)
}

/// Key, type and meaning of a table's row; `None` for other lines. A bar within a cell is `\|`.
fn row(line: &str) -> Option<(&str, &str, &str)> {
    let cells = line.strip_prefix("| `")?.strip_suffix('|')?;
    let (key, rest) = cells.split_once("` | ")?;
    let (kind, meaning) = rest.split_once('|')?;
    Some((key, kind.trim(), meaning.trim()))
}

/// The schema of a type in words: `number`, `list of [STAGE](#stage)`, `string or null`.
fn type_of(kind: &str) -> Result<Value> {
    let kinds: Vec<&str> = kind.split(" or ").collect();
    if let [one, other @ ..] = &kinds[..]
        && !other.is_empty()
    {
        let all = [&[*one], other].concat().into_iter().map(type_of).collect::<Result<Vec<_>>>()?;
        return Ok(json!({ "anyOf": all }));
    }
    Ok(match kind {
        "number" | "string" | "boolean" | "null" => json!({ "type": kind }),
        _ if let Some(of) = kind.strip_prefix("list of ") => {
            json!({ "type": "array", "items": type_of(of)? })
        }
        _ if let Some(of) = kind.strip_prefix("map of ") => {
            json!({ "type": "object", "additionalProperties": type_of(of)? })
        }
        _ if let Some((name, _)) = kind.strip_prefix('[').and_then(|rest| rest.split_once(']')) => {
            json!({ "$ref": format!("#/$defs/{name}") })
        }
        _ => bail!("'{kind}' is no type"),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// What is wrong with a value, of the rules that [`schema`] makes.
    fn faults(value: &Value, rule: &Value, root: &Value, place: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(path) = rule["$ref"].as_str() {
            faults.extend(faults_of(value, &root["$defs"][&path["#/$defs/".len()..]], root, place));
        }
        if let Some(any) = rule["anyOf"].as_array()
            && any.iter().all(|rule| !faults_of(value, rule, root, place).is_empty())
        {
            faults.push(format!("{place} is none of {any:?}"));
        }
        let is_type = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            _ => value.is_null(),
        };
        if rule["type"].as_str().is_some_and(|name| !is_type(name)) {
            faults.push(format!("{place} is no {}", rule["type"]));
        }
        if rule.get("const").is_some_and(|number| number != value) {
            faults.push(format!("{place} is not {}", rule["const"]));
        }
        for key in rule["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.get(key).is_none() {
                faults.push(format!("{place} has no {key}"));
            }
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            let rules = [rule["properties"].get(key), rule.get("additionalProperties")];
            let place = format!("{place}.{key}");
            faults.extend(rules.into_iter().flatten().flat_map(|rule| faults_of(value, rule, root, &place)));
        }
        for value in value.as_array().into_iter().flatten().filter(|_| rule.get("items").is_some()) {
            faults.extend(faults_of(value, &rule["items"], root, &format!("{place}[]")));
        }
        faults
    }

    use faults as faults_of;

    fn golden(name: &str) -> Value {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let mut value: Value = serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap();
        // The golden report's traffic is made up.
        if let Some(traffic) = value.get_mut("traffic") {
            *traffic = json!([]);
        }
        value
    }

    #[test]
    fn real_outputs_follow_their_schema() {
        let files = [
            (Output::Report, "report.json"),
            (Output::Report, "report-layer.json"),
            (Output::Diff, "diff.json"),
            (Output::Tail, "tail.json"),
            (Output::WhatIf, "what-if.json"),
            (Output::Compare, "compare.json"),
        ];
        for (output, name) in files {
            let schema = schema(output).unwrap();
            assert_eq!(faults(&golden(name), &schema, &schema, name), Vec::<String>::new());
        }
    }

    #[test]
    fn a_wrong_output_does_not() {
        let schema = schema(Output::Report).unwrap();
        let faults_with = |change: &dyn Fn(&mut Value)| {
            let mut value = golden("report.json");
            change(&mut value);
            faults(&value, &schema, &schema, "report")
        };
        assert_eq!(faults_with(&|value| value["schema"] = json!(2)), ["report.schema is not 1"]);
        assert_eq!(
            faults_with(&|value| value["stages"][0]["share"] = json!("much")),
            ["report.stages[].share is no \"number\""]
        );
        assert_eq!(
            faults_with(&|value| drop(value.as_object_mut().unwrap().remove("losses"))),
            ["report has no losses"]
        );
    }

    #[test]
    fn every_type_of_the_chapter_is_understood() {
        let objects = objects().unwrap();
        assert!(objects.len() > 30, "{}", objects.len());
        for output in Output::value_variants() {
            assert!(schema(*output).unwrap()["$defs"].as_object().unwrap().contains_key(output.object()));
        }
        assert!(type_of("figure").is_err());
    }
}
