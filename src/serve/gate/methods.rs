//! Which rpc needs which role. Entry point: [`need_of`].
//!
//! Invariant: every rpc that the server has is in the table (a test compares it with the descriptors), and what is not in the
//! table is not called.

use crate::core::access::Role;

/// What a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: probes of load balancers have no token, and health says nothing but whether.
    Nothing,
    /// At least this role.
    Role(Role),
}

/// An rpc.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Method {
    /// `/package.Service/Method`.
    pub(super) path: &'static str,
    pub(super) need: Need,
    /// Whether it is `Changes.Watch`, which is counted by itself.
    pub(super) is_watch: bool,
}

impl Method {
    /// Whether it is of this API, so that its failures have this API's details.
    pub(super) fn is_ours(&self) -> bool {
        self.path.starts_with("/idmap.v1.")
    }

    /// Whether the answer is one message, which is made whole before anything of it is sent.
    pub(super) fn is_single(&self) -> bool {
        !self.is_watch && self.is_ours()
    }
}

const fn method(path: &'static str, need: Need) -> Method {
    Method { path, need, is_watch: false }
}

const NOTHING: Need = Need::Nothing;
const READ: Need = Need::Role(Role::Read);
const EXPLAIN: Need = Need::Role(Role::Explain);
const ADMIN: Need = Need::Role(Role::Admin);

/// In the order of the paths.
const METHODS: &[Method] = &[
    method("/grpc.health.v1.Health/Check", NOTHING),
    method("/grpc.health.v1.Health/Watch", NOTHING),
    method("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", READ),
    method("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", READ),
    method("/idmap.v1.Admin/DeleteOverride", ADMIN),
    method("/idmap.v1.Admin/Reindex", ADMIN),
    method("/idmap.v1.Admin/ReleaseHold", ADMIN),
    method("/idmap.v1.Admin/SetOverride", ADMIN),
    method("/idmap.v1.Admin/TriggerSync", ADMIN),
    method("/idmap.v1.Changes/ListChanges", READ),
    Method { path: "/idmap.v1.Changes/Watch", need: READ, is_watch: true },
    method("/idmap.v1.Coverage/GetStatus", READ),
    method("/idmap.v1.Coverage/ListAmbiguities", READ),
    method("/idmap.v1.Coverage/ListGaps", READ),
    method("/idmap.v1.Coverage/ListOverrides", EXPLAIN),
    method("/idmap.v1.Coverage/ListQuarantined", EXPLAIN),
    method("/idmap.v1.Coverage/ListScopes", READ),
    method("/idmap.v1.Lookup/BatchResolve", READ),
    method("/idmap.v1.Lookup/CheckAppMembership", READ),
    method("/idmap.v1.Lookup/ExpandUser", READ),
    method("/idmap.v1.Lookup/Explain", EXPLAIN),
    method("/idmap.v1.Lookup/GetUser", READ),
    method("/idmap.v1.Lookup/ListAppGroups", READ),
    method("/idmap.v1.Lookup/ListAppUsers", READ),
    method("/idmap.v1.Lookup/ListApps", READ),
    method("/idmap.v1.Lookup/ListGroupMembers", READ),
    method("/idmap.v1.Lookup/ListGroups", READ),
    method("/idmap.v1.Lookup/ListUserAccounts", READ),
    method("/idmap.v1.Lookup/ListUserGroups", READ),
    method("/idmap.v1.Lookup/ResolveAccount", READ),
    method("/idmap.v1.Lookup/ResolveAcl", READ),
    method("/idmap.v1.Search/Search", READ),
    method("/idmap.v1.Search/Suggest", READ),
];

/// Number of all rpcs and of what is none.
pub(super) const PLACES: usize = METHODS.len() + 1;

/// The number of a path among them.
pub(super) fn place_of(path: &str) -> usize {
    METHODS.binary_search_by(|method| method.path.cmp(path)).unwrap_or(METHODS.len())
}

/// The rpc of a path; `None`: there is none, and nothing is called.
pub(super) fn method_of(path: &str) -> Option<&'static Method> {
    let place = METHODS.binary_search_by(|method| method.path.cmp(path)).ok()?;
    METHODS.get(place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// All rpcs that the server's descriptors have. What health and reflection have beside ours, they say themselves.
    fn described() -> BTreeSet<String> {
        let sets = [
            okta_idmap_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut paths = BTreeSet::new();
        for set in sets {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let of_service = service.method.iter();
                    paths.extend(
                        of_service.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())),
                    );
                }
            }
        }
        paths
    }

    #[test]
    fn every_rpc_is_in_the_table_and_nothing_else() {
        let known: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();
        assert_eq!(known, described());
        assert!(METHODS.is_sorted_by(|one, other| one.path < other.path));
        assert!(METHODS.iter().all(|method| method_of(method.path) == Some(method)));
    }

    #[test]
    fn only_admin_starts_and_only_health_is_free() {
        #[track_caller]
        fn check(path: &str, expected: Option<Need>) {
            assert_eq!(method_of(path).map(|method| method.need), expected, "{path}");
        }
        for method in METHODS {
            let service = method.path.split('/').nth(1).unwrap();
            assert_eq!(method.need == NOTHING, service == "grpc.health.v1.Health", "{method:?}");
            assert_eq!(method.need == ADMIN, service == "idmap.v1.Admin", "{method:?}");
        }
        check("/idmap.v1.Lookup/Explain", Some(EXPLAIN));
        check("/idmap.v1.Coverage/ListQuarantined", Some(EXPLAIN));
        check("/idmap.v1.Coverage/ListOverrides", Some(EXPLAIN));
        check("/idmap.v1.Lookup/GetUser", Some(READ));
        check("/idmap.v1.Lookup/getuser", None);
        check("/idmap.v1.Lookup/GetUser/", None);
        check("//idmap.v1.Lookup/GetUser", None);
        check("/idmap.v1.Lookup/DropAll", None);
        check("", None);
    }
}
