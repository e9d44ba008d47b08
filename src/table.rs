//! Tables for people on a terminal: columns under their titles, and no lines around them.

use comfy_table::{ContentArrangement, Table as Layout, presets::NOTHING};

/// A table that is filled row by row.
pub(crate) struct Table(Layout);

impl Table {
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        let mut layout = Layout::new();
        layout
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(titles);
        for column in layout.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(layout)
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.0.row_iter().next().is_none()
    }

    /// The table, each line with its break.
    pub fn print(&self) -> String {
        (self.0.lines())
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }
}
