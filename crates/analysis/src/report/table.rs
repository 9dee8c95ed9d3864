//! Plain tables without borders. Columns are separated by two spaces, or by one where lines would get too wide.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// The width of most terminals.
const WIDTH: usize = 120;

/// The lines of a table, the heading first. Columns from number `numbers` on are right-aligned.
pub fn lines(heading: &[&str], rows: &[Vec<String>], numbers: usize) -> Vec<String> {
    let airy = lines_with_gap(heading, rows, numbers, 2);
    if airy.iter().all(|line| line.chars().count() <= WIDTH) {
        return airy;
    }
    lines_with_gap(heading, rows, numbers, 1)
}

/// The same without columns that have a dash in every row.
pub fn lines_with_values(heading: &[&str], rows: &[Vec<String>], numbers: usize) -> Vec<String> {
    let columns: Vec<usize> =
        (0..heading.len()).filter(|&column| rows.iter().any(|row| row[column] != "-")).collect();
    let heading: Vec<&str> = columns.iter().map(|&column| heading[column]).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|&column| row[column].clone()).collect()).collect();
    let numbers = columns.iter().filter(|&&column| column < numbers).count();
    lines(&heading, &rows, numbers)
}

fn lines_with_gap(heading: &[&str], rows: &[Vec<String>], numbers: usize, gap: u16) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.to_vec());
    table.add_rows(rows.iter().cloned());
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, gap)).set_constraint(ColumnConstraint::ContentWidth);
        if number >= numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_string()).collect()
}
