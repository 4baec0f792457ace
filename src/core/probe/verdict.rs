//! What came of a probe, in the light of all answers. Entry point: [`Sight::judge`].

use super::sight::{Members, Sight};
use super::{Answer, Permission, Probe, ProbeResult, Role};
use crate::core::coverage::ReadFailure;
use crate::core::model::Scope;

/// What is said about a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What came of it.
    pub result: ProbeResult,
    /// What was seen or said.
    pub detail: String,
    /// What stays unknown.
    pub hides: String,
    /// What to do.
    pub remedy: String,
}

impl Sight {
    /// What came of `probe`. To be asked at the end: later answers may show that an earlier one left something out.
    pub fn judge(&self, probe: Probe, answer: &Answer) -> Verdict {
        let (result, detail) = match answer {
            Answer::Failed(failure) => failed(probe, failure),
            Answer::NotAsked(why) => (ProbeResult::NotAsked, why.clone()),
            Answer::NotOffered if probe.is_optional() => (ProbeResult::NotTold, String::new()),
            Answer::NotOffered => (ProbeResult::NotOffered, String::new()),
            Answer::Empty if probe.must_have_rows() => (ProbeResult::Empty, String::new()),
            Answer::Absent if probe.is_optional() => (ProbeResult::NotTold, String::new()),
            Answer::Shown | Answer::Empty | Answer::Absent => {
                let evidence = self.evidence(probe, *answer == Answer::Absent);
                let is_partial = !evidence.is_empty();
                (if is_partial { ProbeResult::Partial } else { ProbeResult::Readable }, evidence.join("; "))
            }
        };
        let scope_named = match answer {
            Answer::Failed(ReadFailure::Forbidden { missing_scope, .. }) => missing_scope.as_deref(),
            _ => None,
        };
        let is_fine = result.is_fine() || result == ProbeResult::NotAsked;
        let (hides, remedy) = match is_fine {
            true => Default::default(),
            false => (hides(probe), self.remedy(probe, result, scope_named)),
        };
        Verdict { result, detail, hides, remedy }
    }

    fn remedy(&self, probe: Probe, result: ProbeResult, scope_named: Option<&str>) -> String {
        let (permission, holder) = (probe.permission(), holder(self.is_service_app));
        match (result, permission) {
            (ProbeResult::Unauthorized, _) if self.is_service_app => {
                "put right what is said above, in the configuration or in the service app: it must be active, and the key \
                 registered with it and not revoked; else register a new key and configure it"
                    .to_owned()
            }
            (ProbeResult::Unauthorized, _) => {
                "create a new API token and configure it; its owner must be active and keep the admin role".to_owned()
            }
            (ProbeResult::Unreachable, _) | (ProbeResult::Failed, None) => {
                "check the org's address, the name service and the way out (proxy, firewall)".to_owned()
            }
            (ProbeResult::Failed, Some(_)) => {
                "see the detail; if it stays, ask Okta's support with the request id".to_owned()
            }
            (ProbeResult::ScopeMissing, permission) => {
                let scope = scope_named.or(permission.map(|permission| permission.oauth_scope)).unwrap_or_default();
                format!("grant the OAuth scope {scope} to the service app (a Super Administrator can)")
            }
            (_, None) => String::new(),
            (ProbeResult::Empty, Some(permission)) => {
                let grant = grant(&permission, holder);
                format!("{holder} has no admin role, and Okta answers with empty lists: {grant}")
            }
            // Who lacks members lacks the users that these are.
            (ProbeResult::Partial, Some(_)) if probe == Probe::GroupMembers => {
                let users = Probe::Users.permission().map(|permission| widen(&permission, holder)).unwrap_or_default();
                format!("it is users that are hidden: {users}")
            }
            (ProbeResult::Partial, Some(permission)) => widen(&permission, holder),
            (_, Some(permission)) => grant(&permission, holder),
        }
    }

    /// What shows that a readable thing is shown in part only.
    fn evidence(&self, probe: Probe, is_absent: bool) -> Vec<String> {
        let mut found = Vec::new();
        if let Some((all, nameless)) = self.nameless.get(&probe)
            && *nameless > 0
        {
            found.push(format!(
                "{nameless} of {all} users come without login or e-mail: a condition of the role hides them"
            ));
        }
        match probe {
            Probe::UserSearch if self.users.is_whole => {
                let shown = self.users.ids.len() as u64;
                let largest = self.stats.iter().max_by_key(|(_, stats)| stats.users);
                if let Some((group, stats)) = largest.filter(|(_, stats)| stats.users > shown) {
                    let counted = stats.users;
                    found.push(format!("it shows {shown} users, and Okta counts {counted} members in group {group}"));
                }
            }
            Probe::Groups if self.everyone_is_absent => {
                found.push("the built-in group Everyone, which every org has, is not shown".to_owned());
            }
            Probe::GroupMembers => found.extend(self.members.as_ref().and_then(|members| self.lacking(members))),
            Probe::User | Probe::Group | Probe::App if is_absent => found.push(self.absent(probe)),
            _ => {}
        }
        found.extend(self.limited_by_role(probe));
        found
    }

    fn lacking(&self, members: &Members) -> Option<String> {
        let counted = self.stats.get(&members.group)?.users;
        let Members { group, shown, is_whole } = members;
        let is_lacking = *is_whole && *shown < counted;
        is_lacking.then(|| format!("it shows {shown} members of group {group}, and Okta counts {counted}"))
    }

    /// Why it was asked for what is not there.
    fn absent(&self, probe: Probe) -> String {
        let (id, named_in) = match probe {
            Probe::User => self.user_to_read().map(|id| (id.to_string(), self.named_users.get(&id))),
            Probe::Group => self.group_to_read().map(|id| (id.to_string(), self.named_groups.get(&id))),
            _ => self.app_to_read().map(|id| (id.to_string(), self.named_apps.get(&id))),
        }
        .unwrap_or_default();
        match named_in.map(Scope::to_string) {
            Some(scope) => format!("{scope} names {id}, and Okta says that there is no such {}", probe.name()),
            None => format!("the list shows {id}, and Okta says that there is no such {}", probe.name()),
        }
    }

    /// Roles that see only what they are limited to, where no other role sees everything.
    fn limited_by_role(&self, probe: Probe) -> Option<String> {
        let roles = self.roles.as_ref()?;
        let reaches: Vec<Reach> = roles.iter().map(|role| reach(role, probe)).collect();
        let is_limited = reaches.contains(&Reach::Limited) && !reaches.contains(&Reach::Everything);
        let kinds: Vec<&str> = roles
            .iter()
            .zip(&reaches)
            .filter(|(_, reach)| **reach == Reach::Limited)
            .map(|(role, _)| &*role.kind)
            .collect();
        let whose = if self.is_service_app { "service app" } else { "owner" };
        is_limited.then(|| format!("the {whose}'s role {} shows only what it is limited to", kinds.join(", ")))
    }
}

/// How far a role sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// All of it.
    Everything,
    /// What it is limited to: the resource set of a custom role, the groups or apps of an administrator of these.
    Limited,
    /// Nothing, or it is not known; the probe itself tells.
    Unsaid,
}

/// How far a role sees of the list behind a probe (facts 1.5, 7.2).
fn reach(role: &Role, probe: Probe) -> Reach {
    let is_list = matches!(probe, Probe::Users | Probe::Groups | Probe::Apps);
    match &*role.kind {
        _ if !is_list => Reach::Unsaid,
        "SUPER_ADMIN" | "ORG_ADMIN" | "READ_ONLY_ADMIN" => Reach::Everything,
        "APP_ADMIN" if probe != Probe::Apps => Reach::Everything,
        "APP_ADMIN" if !role.has_app_targets => Reach::Everything,
        "APP_ADMIN" | "CUSTOM" => Reach::Limited,
        "USER_ADMIN" | "HELP_DESK_ADMIN" | "GROUP_MEMBERSHIP_ADMIN" if probe != Probe::Apps => Reach::Limited,
        _ => Reach::Unsaid,
    }
}

fn failed(probe: Probe, failure: &ReadFailure) -> (ProbeResult, String) {
    let (result, detail) = match failure {
        ReadFailure::Forbidden { missing_scope: Some(_), detail } => (ProbeResult::ScopeMissing, detail.clone()),
        ReadFailure::Forbidden { missing_scope: None, detail } => (ProbeResult::Forbidden, detail.clone()),
        ReadFailure::Unauthorized { detail } => (ProbeResult::Unauthorized, detail.clone()),
        ReadFailure::Unreachable { detail } => (ProbeResult::Unreachable, detail.clone()),
        ReadFailure::Failed { detail } | ReadFailure::NotFound { detail } => (ProbeResult::Failed, detail.clone()),
        ReadFailure::CursorGone | ReadFailure::RestartWalk { .. } | ReadFailure::SearchUnavailable => {
            (ProbeResult::Failed, "Okta does not answer it in this form".to_owned())
        }
    };
    // What is only nice to know is nobody's trouble, unless it shows that nothing works.
    if probe.is_optional() && !result.is_fatal() { (ProbeResult::NotTold, detail) } else { (result, detail) }
}

fn hides(probe: Probe) -> String {
    match probe {
        // Those that only tell of the credential come here when it is refused, or when nobody answers.
        Probe::Org | Probe::Owner | Probe::Roles | Probe::ApiTokens => "everything, unless the other probes succeed",
        Probe::Users | Probe::UserSearch => {
            "users with their names and status: a look-up that finds nobody may be wrong"
        }
        Probe::Groups => "groups with their members, and which group grants an app",
        Probe::Apps => "apps with everything that is assigned to them",
        Probe::Log => "changes between two full crawls: answers are only as fresh as the last crawl",
        Probe::GroupMembers => "who is in a group, and so who has what is shared with it",
        Probe::AppUsers => "accounts in apps: nobody can be found by an account name",
        Probe::AppGroups => "which groups grant an app",
        Probe::User => "changes of users until the next full crawl, and whether a user who is not shown is gone",
        Probe::Group => "changes of groups until the next full crawl, and whether a group that is not shown is gone",
        Probe::App => "changes of apps until the next full crawl, and whether an app that is not shown is gone",
    }
    .to_owned()
}

/// Who has the roles.
const fn holder(is_service_app: bool) -> &'static str {
    if is_service_app { "the service app" } else { "the credential's owner" }
}

fn grant(permission: &Permission, holder: &str) -> String {
    let Permission { standard_role, custom_permission, resource, .. } = permission;
    match custom_permission {
        Some(custom) => {
            format!("give {holder} the standard role {standard_role}, or a custom role with {custom} on {resource}")
        }
        None => {
            format!("give {holder} one of the standard roles {standard_role}; no permission of a custom role covers it")
        }
    }
}

fn widen(permission: &Permission, holder: &str) -> String {
    let Permission { standard_role, custom_permission, resource, .. } = permission;
    let custom = custom_permission.unwrap_or_default();
    format!(
        "give {holder} the standard role {standard_role}, or widen its custom role: {custom} on {resource}, without \
         conditions"
    )
}
