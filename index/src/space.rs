//! What the files of an index are made of.
//!
//! Entry point: [`crate::Reader::bytes_by_field`].

use std::collections::BTreeMap;

use tantivy::Searcher;
use tantivy::space_usage::PerFieldSpaceUsage;

/// Bytes that one field takes in the files of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldBytes {
    /// The field; empty for what belongs to none.
    pub field: String,
    /// Dictionary of its terms.
    pub terms: u64,
    /// Lists of documents.
    pub postings: u64,
    /// Positions of words.
    pub positions: u64,
    /// Values by document.
    pub column: u64,
    /// Everything else: lengths of fields, stored documents, marks of deletion.
    pub other: u64,
}

impl FieldBytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.terms + self.postings + self.positions + self.column + self.other
    }
}

/// By field, the largest first.
pub(crate) fn bytes_by_field(searcher: &Searcher) -> std::io::Result<Vec<FieldBytes>> {
    let mut fields: BTreeMap<String, FieldBytes> = BTreeMap::new();
    for segment in searcher.space_usage()?.segments() {
        let mut add = |usage: &PerFieldSpaceUsage, slot: fn(&mut FieldBytes) -> &mut u64| {
            for field in usage.fields() {
                *slot(fields.entry(field.field_name().to_owned()).or_default()) += field.total().get_bytes();
            }
        };
        add(segment.termdict(), |bytes| &mut bytes.terms);
        add(segment.postings(), |bytes| &mut bytes.postings);
        add(segment.positions(), |bytes| &mut bytes.positions);
        add(segment.fast_fields(), |bytes| &mut bytes.column);
        add(segment.fieldnorms(), |bytes| &mut bytes.other);
        fields.entry(String::new()).or_default().other +=
            segment.store().total().get_bytes() + segment.deletes().get_bytes();
    }
    let mut fields: Vec<FieldBytes> = fields.into_iter().map(|(field, bytes)| FieldBytes { field, ..bytes }).collect();
    fields.sort_by_key(|bytes| std::cmp::Reverse(bytes.total()));
    Ok(fields)
}
