//! Membership events as set operations: which of them may be applied without a read.
//!
//! Entry point: [`decide`]. Events may be seen late, twice and out of order (facts 8.1), and a walk of the members may have
//! seen their effect already; when the order cannot be told for sure, the members are read again.

use super::ids::Timestamp;

/// How far the clocks of Okta's log and of its `Date` header may be apart, the header's whole seconds and the time on the
/// wire included, in milliseconds.
pub const CLOCK_MARGIN_MILLIS: i64 = 5_000;

/// The last complete walk of the group's members, by Okta's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkWindow {
    /// When its first page was asked for.
    pub began: Timestamp,
    /// When its last page had arrived.
    pub ended: Timestamp,
}

/// The newest event about the same group and user that has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// When it was published.
    pub published: Timestamp,
    /// Added, or removed.
    pub added: bool,
}

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Something newer is known already.
    Ignore,
    /// Apply it.
    Apply,
    /// Its place in time cannot be told from what is known: apply nothing, read the members.
    Read,
    /// It is newer than every event known, but the walk may have seen its effect or even that of a later event: apply it,
    /// and read the members.
    ApplyAndRead,
}

/// Decides about one membership event.
///
/// `walk` is the last complete walk of the group's members; without one there is nothing to apply to. `known` is the newest
/// applied event about the same pair.
pub fn decide(added: bool, published: Option<Timestamp>, walk: Option<WalkWindow>, known: Option<Applied>) -> Decision {
    let (Some(published), Some(walk)) = (published, walk) else { return Decision::Read };
    if let Some(known) = known {
        if known.published > published || (known.published == published && known.added == added) {
            return Decision::Ignore;
        }
        if known.published == published {
            return Decision::Read;
        }
    }
    if published < walk.began.plus_millis(-CLOCK_MARGIN_MILLIS) {
        return Decision::Ignore;
    }
    if published > walk.ended.plus_millis(CLOCK_MARGIN_MILLIS) { Decision::Apply } else { Decision::ApplyAndRead }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[track_caller]
    fn check(published: Option<i64>, known: Option<(i64, bool)>, expected: Decision) {
        let walk = WalkWindow { began: at(100), ended: at(110) };
        let known = known.map(|(seconds, added)| Applied { published: at(seconds), added });
        assert_eq!(decide(true, published.map(at), Some(walk), known), expected);
    }

    #[test]
    fn the_place_in_time_decides() {
        check(None, None, Decision::Read);
        check(Some(94), None, Decision::Ignore); // before the walk: seen by it
        check(Some(95), None, Decision::ApplyAndRead);
        check(Some(105), None, Decision::ApplyAndRead);
        check(Some(115), None, Decision::ApplyAndRead);
        check(Some(116), None, Decision::Apply);
        check(Some(200), Some((150, false)), Decision::Apply);
        check(Some(200), Some((250, false)), Decision::Ignore); // late
        check(Some(200), Some((200, true)), Decision::Ignore); // twice
        check(Some(200), Some((200, false)), Decision::Read); // both in one millisecond
        assert_eq!(decide(true, Some(at(1)), None, None), Decision::Read);
    }
}
