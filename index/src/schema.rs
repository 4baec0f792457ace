//! The fields of the index.
//!
//! Entry point: [`Fields::of`]. The table is the whole schema; a change to it, to `fold` or to `tokenize` raises
//! [`SCHEMA_VERSION`], and every index of another version is rebuilt.
//!
//! | field           | terms                                             | answers                               |
//! |-----------------|---------------------------------------------------|---------------------------------------|
//! | `key`           | the key                                           | delete; order of equal scores; the hit |
//! | `kind`          | number of the kind                                | `kind:`, facet                        |
//! | `status`        | whole value, lower case                           | `status:`, facet                      |
//! | `app`           | app id                                            | `app:`, facet                         |
//! | `app_label`     | folded words of a label                           | `app:jira`                            |
//! | `app_line`      | folded label                                      | `app:"Jira Cloud"`                    |
//! | `id`            | id, exactly                                       | `id:`, free words                     |
//! | `title`         | folded words, with positions (no mappings)        | free words, phrases                   |
//! | `name`          | the same for other names                          | the same, lower rank                  |
//! | `account`       | the same for account names and external ids       | the same, and `account:`              |
//! | `mapping`       | folded words of a mapping, without mail domain    | free words, `account:`                |
//! | `title_whole`   | whole title, lower case, accents kept             | exact match first                     |
//! | `name_whole`    | the same for other names                          | exact match first                     |
//! | `account_whole` | the same for account names, also of mappings      | exact match first, `account:`         |
//! | `title_line`    | tag of the kind + folded title (no mappings)      | suggest: prefix of the title          |
//! | `word`          | the words of title, name and account once more    | misspellings, prefixes of short words |
//! | `gram`          | beginnings of these words                         | prefixes                              |
//!
//! `word` is there because walking one dictionary costs a third of walking three.
//!
//! A name that a machine made ([`crate::tokenize::is_machine_id`]) is no words: where it is a name of an account it stands in `account_whole`
//! only, where it is such a name and an id, too (an external id), likewise, and `id:` looks there. There are as many as
//! accounts, nobody types a part of one, and as words and beginnings of words they would be half of the index.
//!
//! Mappings are five of six documents, and each repeats what stands in its user's document: they have words of their
//! own field only, without positions, beginnings and mail domain. That is half the time to fill an index and half its
//! size, keeps the dictionaries that prefixes and misspellings walk small, and loses no person.
//!
//! Invariants:
//! - Nothing is stored: a hit is its key, read from the fast field. Search is hydrated from the store.
//! - No term frequencies and no field lengths: scores are constants per kind of match, so they depend on the
//!   document and the query alone, never on segments, deleted documents or other documents.

use tantivy::schema::{
    Field, IndexRecordOption, NumericOptions, Schema, SchemaBuilder, TextFieldIndexing, TextOptions,
};

use crate::tokenize::{GRAMS_TOKENIZER, LINE_TOKENIZER, TAGGED_LINE_TOKENIZER, WHOLE_TOKENIZER, WORDS_TOKENIZER};

/// Version of everything that decides what is in the index: schema, folding, tokenising. An index of another
/// version is rebuilt.
pub const SCHEMA_VERSION: u32 = 2;

/// Name of the fast field of keys.
pub(crate) const KEY: &str = "key";
/// Name of the fast field of kinds.
pub(crate) const KIND: &str = "kind";
/// Name of the fast field of statuses.
pub(crate) const STATUS: &str = "status";
/// Name of the fast field of app ids.
pub(crate) const APP: &str = "app";

const RAW_TOKENIZER: &str = "raw";

/// Handles of the fields. See the table above.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) key: Field,
    pub(crate) kind: Field,
    pub(crate) status: Field,
    pub(crate) app: Field,
    pub(crate) app_label: Field,
    pub(crate) app_line: Field,
    pub(crate) id: Field,
    pub(crate) title: Field,
    pub(crate) name: Field,
    pub(crate) account: Field,
    pub(crate) mapping: Field,
    pub(crate) title_whole: Field,
    pub(crate) name_whole: Field,
    pub(crate) account_whole: Field,
    pub(crate) title_line: Field,
    pub(crate) word: Field,
    pub(crate) gram: Field,
}

impl Fields {
    /// The schema and the handles of its fields.
    pub(crate) fn schema() -> (Schema, Self) {
        let mut builder = Schema::builder();
        let fields = Self {
            key: builder.add_text_field(KEY, text(RAW_TOKENIZER).set_fast(RAW_TOKENIZER)),
            kind: builder.add_u64_field(KIND, NumericOptions::default().set_indexed().set_fast()),
            status: builder.add_text_field(STATUS, text(WHOLE_TOKENIZER).set_fast(RAW_TOKENIZER)),
            app: builder.add_text_field(APP, text(RAW_TOKENIZER).set_fast(RAW_TOKENIZER)),
            app_label: builder.add_text_field("app_label", text(WORDS_TOKENIZER)),
            app_line: builder.add_text_field("app_line", text(LINE_TOKENIZER)),
            id: builder.add_text_field("id", text(RAW_TOKENIZER)),
            title: word_field(&mut builder, "title"),
            name: word_field(&mut builder, "name"),
            account: word_field(&mut builder, "account"),
            mapping: builder.add_text_field("mapping", text(WORDS_TOKENIZER)),
            title_whole: builder.add_text_field("title_whole", text(WHOLE_TOKENIZER)),
            name_whole: builder.add_text_field("name_whole", text(WHOLE_TOKENIZER)),
            account_whole: builder.add_text_field("account_whole", text(WHOLE_TOKENIZER)),
            title_line: builder.add_text_field("title_line", text(TAGGED_LINE_TOKENIZER)),
            word: builder.add_text_field("word", text(WORDS_TOKENIZER)),
            gram: builder.add_text_field("gram", text(GRAMS_TOKENIZER)),
        };
        (builder.build(), fields)
    }

    /// The three fields of words with positions, best first.
    pub(crate) fn words(&self) -> [Field; 3] {
        [self.title, self.name, self.account]
    }

    /// The three fields of whole values, best first.
    pub(crate) fn wholes(&self) -> [Field; 3] {
        [self.title_whole, self.name_whole, self.account_whole]
    }
}

fn text(tokenizer: &str) -> TextOptions {
    indexed(tokenizer, IndexRecordOption::Basic)
}

fn word_field(builder: &mut SchemaBuilder, name: &str) -> Field {
    // Positions for phrases; they are the one reason for frequencies.
    builder.add_text_field(name, indexed(WORDS_TOKENIZER, IndexRecordOption::WithFreqsAndPositions))
}

fn indexed(tokenizer: &str, record: IndexRecordOption) -> TextOptions {
    let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(record).set_fieldnorms(false);
    TextOptions::default().set_indexing_options(indexing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, raise [`SCHEMA_VERSION`] and write both down again: an index of the old shape must be rebuilt.
    #[test]
    fn a_change_of_shape_needs_a_new_version() {
        let (schema, _) = Fields::schema();
        let shape: Vec<String> = schema
            .fields()
            .map(|(_, entry)| {
                let options = serde_json::to_value(entry).expect("options are JSON");
                let indexing = &options["options"]["indexing"];
                let part = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
                let fast = if entry.is_fast() { "fast" } else { "-" };
                format!("{} {} {} {fast}", entry.name(), part(&indexing["tokenizer"]), part(&indexing["record"]))
            })
            .collect();
        let expected = [
            "key raw basic fast",
            "kind - - fast",
            "status idmap_whole basic fast",
            "app raw basic fast",
            "app_label idmap_words basic -",
            "app_line idmap_line basic -",
            "id raw basic -",
            "title idmap_words position -",
            "name idmap_words position -",
            "account idmap_words position -",
            "mapping idmap_words basic -",
            "title_whole idmap_whole basic -",
            "name_whole idmap_whole basic -",
            "account_whole idmap_whole basic -",
            "title_line idmap_tagged_line basic -",
            "word idmap_words basic -",
            "gram idmap_grams basic -",
        ];
        assert_eq!((SCHEMA_VERSION, shape.as_slice()), (2, expected.map(str::to_owned).as_slice()));
    }
}
