//! Aligned columns of a list of any length. Entry point: [`Table`].
//!
//! Invariants:
//! - Memory does not grow with the list: widths are those of the first rows, and a longer cell later shifts its line.
//! - No cell is shortened: half an id is worse than a crooked line.

use std::io::{self, Write};

use super::text::{clean, width};

/// Rows that are looked at before the first one is written: a page of the default size, so that most lists are aligned
/// perfectly and the first line does not wait for a second page.
const SAMPLE_ROWS_MAX: usize = 100;
/// Columns that a cell is padded to at most: one very long name must not push everything else off the screen.
const PADDED_WIDTH_MAX: usize = 48;
/// Blanks between columns.
const GAP: &str = "  ";

/// A table that is written as it comes.
pub(super) struct Table<W> {
    out: W,
    header: Vec<String>,
    sample: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W, header: impl IntoIterator<Item = &'static str>) -> Self {
        let header = header.into_iter().map(|name| name.replace('_', " ").to_uppercase()).collect();
        Self { out, header, sample: Vec::new(), widths: None }
    }

    /// Takes a row.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = String>) -> io::Result<()> {
        let row: Vec<String> = row.into_iter().map(|cell| clean(&cell)).collect();
        match &self.widths {
            Some(widths) => write_line(&mut self.out, &row, widths),
            None => {
                self.sample.push(row);
                if self.sample.len() >= SAMPLE_ROWS_MAX { self.settle() } else { Ok(()) }
            }
        }
    }

    /// Writes what is still held back. A table without rows is nothing at all.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.widths.is_none() && !self.sample.is_empty() {
            self.settle()?;
        }
        self.out.flush()
    }

    /// Decides the widths and writes header and sample.
    fn settle(&mut self) -> io::Result<()> {
        let lines = || std::iter::once(&self.header).chain(&self.sample);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                let cells = lines().filter_map(|line| line.get(column));
                cells.map(|cell| width(cell)).max().unwrap_or_default().min(PADDED_WIDTH_MAX)
            })
            .collect();
        write_line(&mut self.out, &self.header, &widths)?;
        for row in self.sample.drain(..) {
            write_line(&mut self.out, &row, &widths)?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

fn write_line(out: &mut impl Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
    let mut line = String::new();
    // Where a cell is too long, the next columns take up the slack, so that only a part of the line is crooked.
    let mut debt = 0_usize;
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            line.push_str(GAP);
        }
        line.push_str(cell);
        let target = widths.get(index).copied().unwrap_or_default();
        let used = width(cell) + debt;
        line.extend(std::iter::repeat_n(' ', target.saturating_sub(used)));
        debt = used.saturating_sub(target);
    }
    writeln!(out, "{}", line.trim_end())
}

/// Writes names and values below each other: one thing with its properties.
pub(super) fn write_pairs(out: &mut impl Write, pairs: &[(&str, &str)]) -> io::Result<()> {
    let names: Vec<String> = pairs.iter().map(|(name, _)| name.replace('_', " ")).collect();
    let name_width = names.iter().map(|name| width(name)).max().unwrap_or_default();
    for (name, (_, value)) in names.iter().zip(pairs) {
        // A value of several lines is a list of ours; what others wrote is cleaned line by line.
        for (index, line) in value.lines().enumerate() {
            let name = if index == 0 { name.as_str() } else { "" };
            let padding = " ".repeat(name_width - width(name));
            writeln!(out, "{name}{padding}{GAP}{}", clean(line))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(rows: &[[&str; 3]], expected: Expect) {
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, ["user_id", "name", "status"]);
        for row in rows {
            table.push(row.map(str::to_owned)).unwrap();
        }
        table.finish().unwrap();
        expected.assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn columns_are_aligned() {
        check(&[], expect![""]);
        check(
            &[["00u1", "Ada", "ACTIVE"], ["00u2", "李小龙", ""], ["00u3", "a\nb", "X"]],
            expect![[r#"
                USER ID  NAME     STATUS
                00u1     Ada      ACTIVE
                00u2     李小龙
                00u3     a\u{a}b  X
            "#]],
        );
    }

    #[test]
    fn long_cells_shift_only_their_line() {
        let long = "x".repeat(PADDED_WIDTH_MAX + 3);
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, ["a", "b", "c"]);
        table.push([long.clone(), "12345".to_owned(), "c".to_owned()]).unwrap();
        table.push(["short", "1234567890", "c"].map(str::to_owned)).unwrap();
        table.finish().unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with(&format!("{long}  12345 ")));
        assert_eq!(lines[1].find(" c").unwrap(), lines[2].find(" c").unwrap());
    }

    #[test]
    fn memory_does_not_grow_with_the_list() {
        let mut table = Table::new(io::sink(), ["a"]);
        for number in 0..10 * SAMPLE_ROWS_MAX {
            table.push([number.to_string()]).unwrap();
            assert!(table.sample.len() < SAMPLE_ROWS_MAX);
        }
    }

    #[test]
    fn pairs_stand_below_each_other() {
        let mut out = Vec::new();
        let pairs = [("id", "00u1"), ("display_name", "A\u{1b}"), ("gaps", "a\nb")];
        write_pairs(&mut out, &pairs).unwrap();
        expect![[r#"
            id            00u1
            display name  A\u{1b}
            gaps          a
                          b
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
