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
