//! Which groups are wanted, by name and by where they come from.
//!
//! Entry point: [`GroupFilter::wants`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::model::{Group, GroupType};

/// Which groups are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupFilter {
    /// The name holds one of these, byte by byte; empty: any name.
    pub name_contains: BTreeSet<String>,
    /// Groups that an app brought in (type `APP_GROUP`) are left out.
    pub skip_app_groups: bool,
}

impl GroupFilter {
    /// Whether any group may be left out.
    pub fn is_active(&self) -> bool {
        self.skip_app_groups || !self.name_contains.is_empty()
    }

    /// Whether the group is stored.
    pub fn wants(&self, group: &Group) -> bool {
        let is_named = self.name_contains.is_empty() || self.name_contains.iter().any(|part| group.name.contains(part));
        is_named && !(self.skip_app_groups && group.group_type == GroupType::AppGroup)
    }

    /// Whether every group that `other` wants is wanted.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_covered = |part: &String| self.name_contains.iter().any(|own| part.contains(own.as_str()));
        let names = self.name_contains.is_empty()
            || (!other.name_contains.is_empty() && other.name_contains.iter().all(is_covered));
        names && (!self.skip_app_groups || other.skip_app_groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::GroupId;

    fn filter(parts: &[&str], skip_app_groups: bool) -> GroupFilter {
        GroupFilter { name_contains: parts.iter().map(|part| (*part).to_owned()).collect(), skip_app_groups }
    }

    #[track_caller]
    fn check(filter: &GroupFilter, name: &str, group_type: GroupType, expected: bool) {
        let group = Group {
            id: GroupId::new("00g1").unwrap(),
            name: name.into(),
            description: Some("CIAM".into()),
            group_type,
            source_app: None,
            created: None,
            last_updated: None,
            last_membership_updated: None,
        };
        assert_eq!(filter.wants(&group), expected, "{name}");
    }

    #[test]
    fn names_hold_a_part() {
        use GroupType::{AppGroup, BuiltIn, OktaGroup};
        check(&filter(&[], false), "x", AppGroup, true);
        let ciam = filter(&["CIAM"], false);
        check(&ciam, "CIAM", OktaGroup, true);
        check(&ciam, "EU-CIAM-Admins", AppGroup, true);
        check(&ciam, "ciam", OktaGroup, false);
        check(&ciam, "CI AM", OktaGroup, false);
        check(&ciam, "Everyone", BuiltIn, false);
        check(&filter(&["Every"], false), "Everyone", BuiltIn, true);
        check(&filter(&["CIAM", "Staff"], false), "All Staff", OktaGroup, true);
        let okta_only = filter(&[], true);
        check(&okta_only, "x", AppGroup, false);
        check(&okta_only, "x", OktaGroup, true);
        check(&okta_only, "Everyone", BuiltIn, true);
        check(&filter(&["CIAM"], true), "CIAM", AppGroup, false);
    }

    #[test]
    fn wider_and_narrower() {
        #[track_caller]
        fn check(wide: &GroupFilter, narrow: &GroupFilter, expected: bool) {
            assert_eq!(wide.covers(narrow), expected, "{wide:?} covers {narrow:?}");
        }
        check(&filter(&[], false), &filter(&["a"], true), true);
        check(&filter(&["a"], false), &filter(&[], false), false);
        check(&filter(&["a"], false), &filter(&["bab"], false), true);
        check(&filter(&["bab"], false), &filter(&["a"], false), false);
        check(&filter(&["a"], true), &filter(&["a"], false), false);
        check(&filter(&["a", "b"], false), &filter(&["b"], true), true);
    }
}
