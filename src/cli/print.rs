//! Rows of text: aligned under headings for people, between tabs for `cut` and `awk`.

use std::io::{self, Write};

use super::config::Output;

/// The widest column that others stand behind: what a registration says may be as long as its author likes.
const WIDEST: usize = 80;

/// And the longest cell behind which nothing stands.
const LONGEST: usize = 1000;

/// Prints rows. In `plain` there is no heading, and a tab stands between cells. For people long cells are cut.
///
/// # Errors
/// When nothing can be written.
pub(super) fn rows(out: &mut dyn Write, output: Output, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    if output != Output::Table {
        return rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", row.iter().map(|cell| flat(cell)).collect::<Vec<_>>().join("\t")));
    }
    let heading = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let last = rows.iter().chain([&heading]).map(Vec::len).max().unwrap_or_default().saturating_sub(1);
    let all: Vec<Vec<String>> = std::iter::once(&heading).chain(rows).map(|row| shown(row, last)).collect();
    let all: Vec<_> = all.iter().filter(|row| !row.is_empty()).collect();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..).map_while(width).collect();
    for row in all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// The cells of a row as people see them; nothing stands behind the column `last`.
fn shown(row: &[String], last: usize) -> Vec<String> {
    let most = |column| if column == last { LONGEST } else { WIDEST };
    row.iter().enumerate().map(|(column, cell)| cut(&flat(cell), most(column))).collect()
}

/// No more than so many characters; `…` in the place of the rest.
fn cut(cell: &str, most: usize) -> String {
    match cell.char_indices().nth(most) {
        None => cell.to_owned(),
        Some(_) => cell.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// Not by a format: that panics at a width of more than 65,535, which a last cell of another's making may have.
fn padded(cell: &str, width: usize) -> String {
    let missing = width.saturating_sub(cell.chars().count());
    format!("{cell}{}", " ".repeat(missing))
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

    /// A format panics at a width of more than 65,535.
    #[test]
    fn a_cell_of_any_length_is_cut_for_people_and_whole_for_programs() {
        let long = "ä".repeat(70_000);
        let data =
            [vec!["a".to_owned(), long.clone(), "end".to_owned()], vec!["b".to_owned(), String::new(), long.clone()]];
        let print = |output| {
            let mut out = Vec::new();
            rows(&mut out, output, &["ID", "SCOPE", "X"], &data).unwrap();
            String::from_utf8(out).unwrap()
        };
        let shown = print(Output::Table);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], format!("a   {}…  end", "ä".repeat(WIDEST - 1)));
        assert_eq!(lines[2].chars().count(), 4 + WIDEST + 2 + LONGEST);
        assert!(lines[2].ends_with("ä…"), "{}", lines[2]);
        assert_eq!(print(Output::Plain), format!("a\t{long}\tend\nb\t\t{long}\n"));
    }
}
