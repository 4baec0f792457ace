//! Which segments are merged. Entry point: [`BoundedMerges`].
//!
//! A merge maps all files of its segments and reads them from end to end, and for as long as it takes all of that counts as memory of the
//! process: tantivy's own policy would merge an index of millions of documents as a whole.

use tantivy::SegmentMeta;
use tantivy::indexer::{LogMergePolicy, MergeCandidate, MergePolicy};

/// Share of deleted documents from which a segment is rewritten even if no merge is due. They cost space and time in
/// each search; below a third the rewriting costs more.
const DELETED_SHARE_MAX: f32 = 0.3;

/// So many documents may be merged at a time in any index: some 70 MiB.
const MERGED_DOCS_MIN: u64 = 600_000;

/// In a larger index a merge may take in this part of it: its largest segments, each of which costs every search some time, are
/// then no more than twice as many.
const PARTS: u64 = 12;

/// tantivy's policy, which merges segments of about the same size, but with few enough documents at a time.
#[derive(Debug)]
pub(crate) struct BoundedMerges(LogMergePolicy);

impl Default for BoundedMerges {
    fn default() -> Self {
        let mut policy = LogMergePolicy::default();
        policy.set_del_docs_ratio_before_merge(DELETED_SHARE_MAX);
        Self(policy)
    }
}

impl MergePolicy for BoundedMerges {
    fn compute_merge_candidates(&self, segments: &[SegmentMeta]) -> Vec<MergeCandidate> {
        let docs_max = docs_max(segments.iter().map(|segment| u64::from(segment.max_doc())).sum());
        let candidates = self.0.compute_merge_candidates(segments).into_iter();
        let groups = candidates.flat_map(|MergeCandidate(ids)| {
            let metas = segments.iter().filter(|segment| ids.contains(&segment.id()));
            let sizes = metas.map(|segment| Size {
                of: segment.id(),
                docs: u64::from(segment.max_doc()),
                deleted: u64::from(segment.num_deleted_docs()),
            });
            groups(sizes.collect(), docs_max)
        });
        groups.map(MergeCandidate).collect()
    }
}

/// Documents that may be merged at a time in an index of so many.
fn docs_max(all: u64) -> u64 {
    MERGED_DOCS_MIN.max(all / PARTS)
}

/// A segment: which, its documents, and those among them that are deleted.
#[derive(Clone, Copy, Debug)]
struct Size<T> {
    of: T,
    docs: u64,
    deleted: u64,
}

impl<T> Size<T> {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn is_worn(&self) -> bool {
        self.deleted as f32 > self.docs as f32 * DELETED_SHARE_MAX
    }
}

/// The smallest first, as many together as may be. What would be alone is left as it is, unless too much of it is deleted.
fn groups<T>(mut sizes: Vec<Size<T>>, docs_max: u64) -> Vec<Vec<T>> {
    sizes.sort_by_key(|size| size.docs);
    let mut groups: Vec<(u64, Vec<Size<T>>)> = Vec::new();
    for size in sizes {
        match groups.last_mut() {
            Some((docs, group)) if *docs + size.docs <= docs_max => {
                *docs += size.docs;
                group.push(size);
            }
            _ => groups.push((size.docs, vec![size])),
        }
    }
    let is_worth_it = |group: &[Size<T>]| group.len() > 1 || group.iter().any(Size::is_worn);
    let worth = groups.into_iter().map(|(_, group)| group).filter(|group| is_worth_it(group));
    worth.map(|group| group.into_iter().map(|size| size.of).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_are_small_enough() {
        let check = |docs: &[(u64, u64)], expected: &[&[usize]]| {
            let sizes = docs.iter().enumerate().map(|(of, &(docs, deleted))| Size { of, docs, deleted });
            assert_eq!(groups(sizes.collect(), 600), expected, "{docs:?}");
        };
        check(&[], &[]);
        // As tantivy's policy has it.
        check(&[(60, 0); 8], &[&[0, 1, 2, 3, 4, 5, 6, 7]]);
        check(&[(75, 0); 8], &[&[0, 1, 2, 3, 4, 5, 6, 7]]);
        // In parts; what is left over waits.
        check(&[(160, 0); 8], &[&[0, 1, 2], &[3, 4, 5], &[6, 7]]);
        check(&[(290, 0); 3], &[&[0, 1]]);
        check(&[(500, 0), (100, 0), (101, 0)], &[&[1, 2]]);
        check(&[(500, 0), (100, 0)], &[&[1, 0]]);
        check(&[(500, 0); 8], &[]);
        check(&[(601, 0), (5_000, 0)], &[]);
        // What is deleted goes.
        check(&[(500, 150), (500, 151), (500, 0)], &[&[1]]);
        check(&[(5_000, 1_501)], &[&[0]]);
        check(&[(0, 0)], &[]);
    }

    #[test]
    fn a_larger_index_has_larger_segments() {
        assert_eq!(docs_max(0), 600_000);
        assert_eq!(docs_max(7_200_000), 600_000);
        assert_eq!(docs_max(12_000_000), 1_000_000);
    }

    /// Whatever there is, it comes to an end, at few segments, each of which is merged into larger ones few times.
    #[test]
    fn merging_ends_at_few_segments() {
        for (flushed, count) in [(60_000, 100), (7_000, 900), (1_000, 5_000), (250_000, 24), (599_000, 10)] {
            let index = tantivy::Index::create_in_ram(tantivy::schema::Schema::builder().build());
            let mut segments: Vec<SegmentMeta> = Vec::new();
            let mut copied = 0;
            let all = u64::from(flushed) * count;
            for _ in 0..count {
                segments.push(index.new_segment_meta(tantivy::index::SegmentId::generate_random(), flushed));
                loop {
                    let candidates = BoundedMerges::default().compute_merge_candidates(&segments);
                    let Some(MergeCandidate(ids)) = candidates.into_iter().next() else { break };
                    let docs =
                        segments.iter().filter(|segment| ids.contains(&segment.id())).map(SegmentMeta::max_doc).sum();
                    assert!(u64::from(docs) <= docs_max(all), "{docs} documents in one merge");
                    copied += u64::from(docs);
                    segments.retain(|segment| !ids.contains(&segment.id()));
                    segments.push(index.new_segment_meta(tantivy::index::SegmentId::generate_random(), docs));
                }
            }
            let (len, times) = (segments.len(), copied / all);
            assert!(
                len <= 20 && times <= 3,
                "{count} of {flushed}: {len} segments, each document copied {times} times"
            );
        }
    }
}
