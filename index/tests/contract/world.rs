//! Small indexes for the other modules. Entry point: [`World`].

use okta_idmap_index::{
    DocKind, Era, Expect, HEAP_BYTES_MIN, Index, IndexDoc, Mark, Opened, Query, Reader, SuggestQuery, open,
};
use tempfile::TempDir;

pub(crate) const STORE: &str = "store-1";

/// The era of all revisions.
pub(crate) const ERA: &str = "e";

pub(crate) fn eras(all: &[(&str, u64)]) -> Vec<Era> {
    all.iter().map(|(name, first)| Era { name: (*name).to_owned(), first: *first }).collect()
}

pub(crate) fn expect_up_to(newest: u64) -> Expect {
    Expect { store_id: STORE.to_owned(), eras: eras(&[(ERA, 0)]), revisions: 0..=newest }
}

pub(crate) fn mark(revision: u64) -> Mark {
    Mark { store_id: STORE.to_owned(), era: ERA.to_owned(), revision }
}

/// The index of an [`Opened`], whichever it is.
pub(crate) fn index_of(opened: Opened) -> Index {
    match opened {
        Opened::Ready(index, _) | Opened::Rebuild(index, _) => index,
    }
}

/// An index in a directory of its own, filled in one commit.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) index: Index,
}

impl World {
    pub(crate) fn of(docs: &[IndexDoc]) -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let index = index_of(open(dir.path(), &expect_up_to(9)).expect("open"));
        let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
        for doc in docs {
            writer.put(doc).expect("put");
        }
        writer.commit_at(&mark(1)).expect("commit");
        drop(writer);
        Self { dir, index }
    }

    /// Users `user/0`, `user/1`, … with these titles.
    pub(crate) fn of_users(titles: &[&str]) -> Self {
        let docs: Vec<IndexDoc> = titles.iter().enumerate().map(|(number, title)| user(number, title)).collect();
        Self::of(&docs)
    }

    pub(crate) fn reader(&self) -> Reader {
        self.index.reader()
    }

    /// Keys found, in order, separated by spaces; an error as its text.
    pub(crate) fn find(&self, query: &str) -> String {
        match self.reader().search(&Query { limit: 100, ..Query::new(query) }) {
            Ok(results) => {
                assert_eq!(results.total, results.hits.len() as u64, "{query:?}");
                results.hits.iter().map(|hit| hit.key.as_str()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    /// Titles suggested by key, with the row of the table they stand in.
    pub(crate) fn suggest(&self, text: &str, kinds: &[DocKind]) -> String {
        let query = SuggestQuery { kinds: kinds.to_vec(), ..SuggestQuery::new(text) };
        let hits = self.reader().suggest(&query).expect("suggest");
        hits.iter().map(|hit| format!("{}:{}", hit.key, hit.score)).collect::<Vec<_>>().join(" ")
    }
}

pub(crate) fn user(number: usize, title: &str) -> IndexDoc {
    IndexDoc::new(DocKind::User, format!("user/{number}"), title)
}
