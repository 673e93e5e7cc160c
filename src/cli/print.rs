//! Rows of text: aligned under headings for people, between tabs for `cut` and `awk`.

use std::io::{self, Write};

use super::config::Output;

/// Prints rows. In `plain` there is no heading, and a tab stands between cells.
///
/// # Errors
/// When nothing can be written.
pub(super) fn rows(out: &mut dyn Write, output: Output, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    if output != Output::Table {
        return rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", row.iter().map(|cell| flat(cell)).collect::<Vec<_>>().join("\t")));
    }
    let heading: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heading).chain(rows).filter(|row| !row.is_empty()).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..).map_while(width).collect();
    for row in all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", flat(cell), width = *width));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// On one line, and without what acts on a terminal: what a registration says may come from anybody.
fn flat(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_columns_and_programs_get_tabs() {
        let data = [
            vec!["a".to_owned(), "bé\u{1b}b".to_owned(), "c".to_owned()],
            vec!["long".to_owned(), String::new(), String::new()],
        ];
        let print = |output| {
            let mut out = Vec::new();
            rows(&mut out, output, &["ID", "NAME", "X"], &data).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(print(Output::Table), "ID    NAME  X\na     bé b  c\nlong\n");
        assert_eq!(print(Output::Plain), "a\tbé b\tc\nlong\t\t\n");
    }
}
