//! One kind of rows as a Parquet file. Entry point: [`Columns`].
//!
//! | in the API | in the file |
//! |---|---|
//! | text, name of an enum's value | UTF-8 string; `null` where the API has none |
//! | yes or no | boolean |
//! | number | 64-bit integer |
//! | time | timestamp in milliseconds, UTC |
//! | several texts | list of strings |
//!
//! What the first line of JSON lines says is in the metadata of the file, under keys that begin with `okta_idmap.`.
//!
//! Invariant: a group of rows is in memory at a time, whatever is exported.

use std::io::{self, Write};
use std::sync::Arc;

use okta_idmap_proto::v1;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::{FORMAT_VERSION, Lines, fields};
use crate::cli::output::{CellType, row_columns, to_json};
use crate::core::ids::Timestamp;
use crate::serve::ExportPart;

/// Rows of a group: enough for encodings to pay, and some twenty megabytes of memory.
const GROUP_ROWS_MAX: usize = 20_000;
/// Bytes of text in a group, above which it ends early: descriptions may be long.
const GROUP_TEXT_BYTES_MAX: usize = 32 << 20;

/// A file that is being written.
pub(super) struct Columns<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    group_rows_max: usize,
    group_rows: usize,
    group_text_bytes: usize,
    rows: u64,
}

impl<W: Write + Send> Columns<W> {
    /// Begins the file of a kind of rows.
    pub(super) fn new(out: W, kind: &'static str) -> io::Result<Self> {
        Self::in_groups(out, kind, GROUP_ROWS_MAX)
    }

    fn in_groups(out: W, kind: &'static str, group_rows_max: usize) -> io::Result<Self> {
        let columns: Vec<Column> = row_columns(kind).into_iter().map(Column::new).collect();
        let schema = columns.iter().map(Column::schema).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let schema = Type::group_type_builder(kind).with_fields(schema).build().map_err(failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        file.append_key_value_metadata(KeyValue::new("okta_idmap.kind".to_owned(), kind.to_owned()));
        Ok(Self { file, columns, group_rows_max, group_rows: 0, group_text_bytes: 0, rows: 0 })
    }

    fn describe(&mut self, meta: &v1::ResponseMeta, era: &str) {
        let pairs = [
            ("version", FORMAT_VERSION.to_string()),
            ("store_id", meta.store_id.clone()),
            ("revision", meta.revision.to_string()),
            ("era", era.to_owned()),
            ("completeness", meta.completeness().as_str_name().trim_start_matches("COMPLETENESS_").to_owned()),
            ("meta", to_json(meta).to_string()),
        ];
        for (name, value) in pairs {
            self.file.append_key_value_metadata(KeyValue::new(format!("okta_idmap.{name}"), value));
        }
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        if self.group_rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for column in &mut self.columns {
            column.write(&mut group)?;
        }
        group.close()?;
        (self.group_rows, self.group_text_bytes) = (0, 0);
        Ok(())
    }
}

impl<W: Write + Send> Lines for Columns<W> {
    fn part(&mut self, part: &ExportPart) -> io::Result<()> {
        match part {
            ExportPart::Begin { meta, era, .. } => self.describe(meta, era),
            ExportPart::Row(row) => {
                let mut fields = fields(row);
                for column in &mut self.columns {
                    let value = fields.remove(&column.name).unwrap_or_default();
                    self.group_text_bytes += column.push(&value);
                }
                self.rows += 1;
                self.group_rows += 1;
                if self.group_rows >= self.group_rows_max || self.group_text_bytes >= GROUP_TEXT_BYTES_MAX {
                    self.end_group().map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn end(&mut self) -> io::Result<u64> {
        self.end_group().map_err(failed)?;
        self.file.finish().map_err(failed)?;
        self.file.inner_mut().flush()?;
        Ok(self.rows)
    }
}

/// The kind of an error of the output is kept: a closed one is no failure.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}

/// The values of a column within the group.
#[derive(Debug)]
enum Values {
    Texts(Vec<ByteArray>),
    Flags(Vec<bool>),
    Numbers(Vec<i64>),
}

#[derive(Debug)]
struct Column {
    name: String,
    cell: CellType,
    can_be_null: bool,
    values: Values,
    /// For each place 0: nothing there. Else the depth at which there is something.
    definitions: Vec<i16>,
    /// For each element of a list 0: the first of its row.
    repetitions: Vec<i16>,
}

impl Column {
    fn new((name, cell, can_be_null): (String, CellType, bool)) -> Self {
        let values = match cell {
            CellType::Text | CellType::Texts => Values::Texts(Vec::new()),
            CellType::Flag => Values::Flags(Vec::new()),
            CellType::Number | CellType::Time => Values::Numbers(Vec::new()),
        };
        Self { name, cell, can_be_null, values, definitions: Vec::new(), repetitions: Vec::new() }
    }

    fn schema(&self) -> Result<TypePtr, ParquetError> {
        let repetition = if self.can_be_null { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let plain = |physical, logical| {
            Type::primitive_type_builder(&self.name, physical)
                .with_logical_type(logical)
                .with_repetition(repetition)
                .build()
        };
        let built = match self.cell {
            CellType::Text => plain(Physical::BYTE_ARRAY, Some(LogicalType::String)),
            CellType::Flag => plain(Physical::BOOLEAN, None),
            CellType::Number => plain(Physical::INT64, None),
            CellType::Time => {
                let time = LogicalType::timestamp(true, TimeUnit::MILLIS);
                plain(Physical::INT64, Some(time))
            }
            CellType::Texts => list_of_texts(&self.name),
        };
        built.map(Arc::new)
    }

    /// Adds the cell of a row; tells how many bytes of text it took.
    fn push(&mut self, value: &Value) -> usize {
        if self.cell == CellType::Texts {
            return self.push_texts(value.as_array().map(Vec::as_slice).unwrap_or_default());
        }
        let is_null = value.is_null() && self.can_be_null;
        if self.can_be_null {
            self.definitions.push(i16::from(!is_null));
        }
        if is_null {
            return 0;
        }
        match &mut self.values {
            Values::Texts(texts) => {
                let text = text_of(value);
                let bytes = text.len();
                texts.push(text);
                return bytes;
            }
            Values::Flags(flags) => flags.push(value.as_bool().unwrap_or_default()),
            Values::Numbers(numbers) => numbers.push(match self.cell {
                CellType::Time => value.as_str().and_then(Timestamp::parse).unwrap_or_default().as_millis(),
                _ => value.as_i64().unwrap_or_default(),
            }),
        }
        0
    }

    fn push_texts(&mut self, elements: &[Value]) -> usize {
        let Values::Texts(texts) = &mut self.values else { return 0 };
        if elements.is_empty() {
            self.definitions.push(0);
            self.repetitions.push(0);
        }
        let mut bytes = 0;
        for (index, element) in elements.iter().enumerate() {
            self.definitions.push(1);
            self.repetitions.push(i16::from(index > 0));
            let text = text_of(element);
            bytes += text.len();
            texts.push(text);
        }
        bytes
    }

    /// Writes and forgets the group's values.
    fn write<W: Write + Send>(&mut self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        let levels = |levels: Vec<i16>, is_there: bool| is_there.then_some(levels);
        let is_list = self.cell == CellType::Texts;
        let definitions = levels(std::mem::take(&mut self.definitions), self.can_be_null || is_list);
        let repetitions = levels(std::mem::take(&mut self.repetitions), is_list);
        let levels = (definitions.as_deref(), repetitions.as_deref());
        match &mut self.values {
            Values::Texts(texts) => put::<ByteArrayType, W>(group, &std::mem::take(texts), levels),
            Values::Flags(flags) => put::<BoolType, W>(group, &std::mem::take(flags), levels),
            Values::Numbers(numbers) => put::<Int64Type, W>(group, &std::mem::take(numbers), levels),
        }
    }
}

fn put<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    (definitions, repetitions): (Option<&[i16]>, Option<&[i16]>),
) -> Result<(), ParquetError> {
    let next = group.next_column()?;
    let mut column = next.ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
    column.typed::<T>().write_batch(values, definitions, repetitions)?;
    column.close()
}

/// A list whose elements are always there, as readers of all languages know it.
fn list_of_texts(name: &str) -> Result<Type, ParquetError> {
    let element = Type::primitive_type_builder("element", Physical::BYTE_ARRAY)
        .with_logical_type(Some(LogicalType::String))
        .with_repetition(Repetition::REQUIRED)
        .build()?;
    let list = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    Type::group_type_builder(name)
        .with_logical_type(Some(LogicalType::List))
        .with_repetition(Repetition::REQUIRED)
        .with_fields(vec![Arc::new(list)])
        .build()
}

/// Text as it is; a number of a newer server's enum as its digits.
fn text_of(value: &Value) -> ByteArray {
    match value {
        Value::String(text) => ByteArray::from(text.as_str()),
        Value::Null => ByteArray::from(""),
        other => ByteArray::from(other.to_string().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;

    use super::*;

    #[test]
    fn groups_of_rows_are_one_file() {
        let file = tempfile::tempfile().unwrap();
        let mut columns = Columns::in_groups(file.try_clone().unwrap(), "app", 4).unwrap();
        let app = |number: usize| v1::App {
            id: format!("0oa{number}"),
            features: (0..number % 3).map(|feature| format!("F{feature}")).collect(),
            created_at: number.is_multiple_of(2).then_some(prost_types::Timestamp { seconds: 7, nanos: 5_000_000 }),
            ..v1::App::default()
        };
        for number in 0..10 {
            let row = v1::Row { row: Some(v1::row::Row::App(app(number))) };
            columns.part(&ExportPart::Row(row)).unwrap();
        }
        assert_eq!(columns.end().unwrap(), 10);
        let file = SerializedFileReader::new(file).unwrap();
        assert_eq!((file.num_row_groups(), file.metadata().file_metadata().num_rows()), (3, 10));
        for (number, row) in file.get_row_iter(None).unwrap().enumerate() {
            let row = row.unwrap();
            let at = |name: &str| row.get_column_iter().position(|(known, _)| known == name).unwrap();
            assert_eq!(row.get_string(at("id")).unwrap(), &format!("0oa{number}"));
            assert_eq!(row.get_list(at("features")).unwrap().len(), number % 3);
            let created = row.get_timestamp_millis(at("created_at")).ok();
            assert_eq!(created, number.is_multiple_of(2).then_some(7_005), "{row:?}");
            // UNSPECIFIED is no value.
            assert!(row.get_string(at("status")).is_err(), "{row:?}");
        }
    }

    #[test]
    fn an_output_that_fails_says_why() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut columns = Columns::new(Closed, "group_member").unwrap();
        assert_eq!(columns.end().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
