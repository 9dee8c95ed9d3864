//! Plain tables: no borders, columns apart by two spaces.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// The lines of a table, the heading first. Columns from number `numbers` on stand to the right.
pub(super) fn lines(heading: &[&str], rows: &[Vec<String>], numbers: usize) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.to_vec());
    table.add_rows(rows.iter().cloned());
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2)).set_constraint(ColumnConstraint::ContentWidth);
        if number >= numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_string()).collect()
}
