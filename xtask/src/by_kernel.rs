//! Tables in the book of what the kernel matrix found on each kernel: compared with what it finds now, or written anew.

use std::{collections::BTreeMap, fmt::Write, fs};

use anyhow::{Result, bail};

use crate::host;

const NOT_TESTED: &str = "not tested";

/// What a table is of, and where it stands.
pub struct Document {
    /// From the workspace's root.
    pub file: &'static str,
    /// What stands above the table.
    pub heading: &'static str,
    /// What the rows are, `stage`.
    pub rows: &'static str,
    /// What is said of each beside its name.
    pub note: &'static str,
    pub notes: Notes,
}

/// What becomes of a row's note.
pub enum Notes {
    /// Where none is found this time, what was known stays.
    Stay,
    /// Another one than was known is a difference, in these words.
    Compared(&'static str),
}

/// What was found, in the rows' order.
#[derive(Debug, Default, PartialEq)]
pub struct Found(pub Vec<Row>);

#[derive(Debug, Default, PartialEq)]
pub struct Row {
    pub name: String,
    pub note: String,
    pub by_kernel: BTreeMap<String, String>,
}

impl Document {
    /// Compares what was found with the file, or with `bless` puts it there.
    ///
    /// # Errors
    ///
    /// Nothing was found, the file says something else, or it cannot be written.
    pub fn check(&self, found: Found, kernels: &[&str], bless: bool) -> Result<()> {
        if found.0.iter().all(|row| row.by_kernel.is_empty()) {
            bail!("no kernel has told its {}s", self.rows);
        }
        let path = host::workspace().join(self.file);
        let known = Found::of_table(&fs::read_to_string(&path).unwrap_or_default());
        if bless {
            let text = self.text(&self.on_top_of(found, known), kernels);
            let state = if host::write_if_changed(&path, text.as_bytes())? { "written" } else { "unchanged" };
            host::progress(&format!("{} {state}", path.display()));
            return Ok(());
        }
        let differences = self.differences(&found, &known);
        if differences.is_empty() {
            return Ok(());
        }
        bail!(
            "{} is not what was found: {}; `cargo xtask test --all --bless` writes it",
            self.file,
            differences.join("; ")
        )
    }

    /// What was found, and of kernels that were not tested this time what was known.
    pub fn on_top_of(&self, mut found: Found, known: Found) -> Found {
        for old in known.0 {
            let Some(row) = found.0.iter_mut().find(|row| row.name == old.name) else { continue };
            if matches!(self.notes, Notes::Stay) && row.note.is_empty() {
                row.note = old.note;
            }
            for (kernel, cell) in old.by_kernel {
                row.by_kernel.entry(kernel).or_insert(cell);
            }
        }
        found
    }

    /// Where what is known is not what was found, in words.
    pub fn differences(&self, found: &Found, known: &Found) -> Vec<String> {
        let mut differences = Vec::new();
        for row in &found.0 {
            let old = known.row(&row.name);
            for (kernel, cell) in &row.by_kernel {
                let told = old.and_then(|old| old.by_kernel.get(kernel)).map(String::as_str);
                if told != Some(cell) {
                    let told = told.unwrap_or("nothing");
                    differences.push(format!("{} on {kernel}: {cell}, where it says {told}", row.name));
                }
            }
            if let Notes::Compared(words) = self.notes
                && old.is_some_and(|old| old.note != row.note)
            {
                differences.push(format!("{} {words}", row.name));
            }
        }
        let gone = known.0.iter().filter(|old| found.row(&old.name).is_none());
        differences.extend(gone.map(|old| format!("there is no {} {}", self.rows, old.name)));
        differences
    }

    /// The whole file.
    pub fn text(&self, found: &Found, kernels: &[&str]) -> String {
        let mut text = self.heading.to_owned();
        let _ = writeln!(text, "| {} | {} | {} |", self.rows, self.note, kernels.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(kernels.len()));
        for row in &found.0 {
            let cell = |kernel: &&str| row.by_kernel.get(*kernel).map_or(NOT_TESTED, String::as_str);
            let cells: Vec<&str> = kernels.iter().map(cell).collect();
            let _ = writeln!(text, "| {} | {} | {} |", row.name, row.note, cells.join(" | "));
        }
        text
    }
}

impl Found {
    /// From the file, as [`Document::text`] has written it.
    pub fn of_table(text: &str) -> Found {
        let mut lines = text.lines().filter_map(cells);
        let kernels: Vec<&str> = lines.next().unwrap_or_default().into_iter().skip(2).collect();
        let row = |cells: Vec<&str>| {
            let by_kernel = kernels.iter().zip(cells.iter().skip(2)).filter(|(_, cell)| **cell != NOT_TESTED);
            Some(Row {
                name: (*cells.first()?).to_owned(),
                note: (*cells.get(1)?).to_owned(),
                by_kernel: by_kernel.map(|(kernel, cell)| (kernel.to_string(), cell.to_string())).collect(),
            })
        };
        Found(lines.skip(1).filter_map(row).collect())
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.name == name)
    }

    /// The row of this name, which comes last if there was none.
    pub fn row_of(&mut self, name: &str) -> &mut Row {
        let at = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.0.push(Row { name: name.to_owned(), ..Row::default() });
            self.0.len() - 1
        });
        &mut self.0[at]
    }
}

/// The cells of a table's line.
pub fn cells(line: &str) -> Option<Vec<&str>> {
    Some(line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect())
}

/// The lines `KERNEL  TEST  RESULT` of matrices.
pub fn results(outputs: &[String]) -> impl Iterator<Item = (&str, &str, &str)> {
    outputs.iter().flat_map(|output| output.lines()).filter_map(|line| {
        let mut fields = line.splitn(3, "  ");
        Some((fields.next()?, fields.next()?, fields.next()?))
    })
}
