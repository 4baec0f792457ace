//! What is answered about people and groups that a filter keeps out.

use std::sync::Arc;

use okta_idmap_proto::v1::lookup_server::Lookup as _;
use okta_idmap_proto::v1::{self, ResolutionOutcome, SubjectOutcome};
use tonic::Request;

use super::{CredentialKind, OrgView, Orgs, SearchHandle, Services, StatusSource};
use crate::core::batch::{Batch, WalkState, WalkUpdate};
use crate::core::filter::{DomainFilter, DomainPattern, Filter, GroupFilter};
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{
    App, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Row, Scope, User,
    UserStatus,
};
use crate::core::policy::{GrantPolicy, GrantPolicySettings};
use crate::core::reconcile::Brake;
use crate::store::{ChangeRetention, Store, StoreConfig};

struct World {
    services: Services,
    runtime: tokio::runtime::Runtime,
    _store: Store,
    _dir: tempfile::TempDir,
}

fn user(id: &str, login: &str) -> Row {
    Row::User(User {
        id: UserId::new(id).unwrap(),
        status: UserStatus::Active,
        login: Some(login.into()),
        email: Some(format!("mail.{login}").into()),
        second_email: None,
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

fn group(id: &str, name: &str) -> Row {
    Row::Group(Group {
        id: GroupId::new(id).unwrap(),
        name: name.into(),
        description: None,
        group_type: GroupType::OktaGroup,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    })
}

fn app() -> Row {
    Row::App(App {
        id: AppId::new("0oa1").unwrap(),
        name: "jira".into(),
        label: "Jira".into(),
        status: AppStatus::Active,
        sign_on_mode: None,
        features: Vec::new(),
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    })
}

fn account(user: &str, user_name: &str, external_id: &str) -> Row {
    Row::AppUser(AppUser {
        app: AppId::new("0oa1").unwrap(),
        user: UserId::new(user).unwrap(),
        user_name: Some(user_name.into()),
        external_id: Some(external_id.into()),
        email: None,
        status: AppUserStatus::Active,
        scope: AssignmentScope::User,
        sync_state: None,
        via_group: None,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

impl World {
    /// Everything is read to its end, but for the users where `reads_users` is not set.
    fn new(reads_users: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let filter = Filter {
            users: DomainFilter::new(DomainPattern::parse("example.com")),
            groups: GroupFilter { name_contains: ["Eng".to_owned()].into(), skip_app_groups: false },
            ..Filter::default()
        };
        let store = Store::open(StoreConfig {
            dir: dir.path().to_owned(),
            brake: Brake::default(),
            credential: "c".to_owned(),
            changes: ChangeRetention::default(),
            filter,
        });
        let store = store.unwrap();
        let (app_id, group_id) = (AppId::new("0oa1").unwrap(), GroupId::new("00g1").unwrap());
        let member =
            |user: &str| Row::GroupMember(GroupMember { group: group_id.clone(), user: UserId::new(user).unwrap() });
        let users = vec![user("00u1", "in@example.com"), user("00u2", "out@outside.test")];
        let lists = [
            (Scope::Users, users),
            (Scope::Groups, vec![group("00g1", "Eng"), group("00g2", "Sales")]),
            (Scope::Apps, vec![app()]),
            (Scope::AppUsers(app_id.clone()), vec![account("00u1", "in", "1"), account("00u2", "out", "2")]),
            (Scope::AppGroups(app_id), Vec::new()),
            (Scope::GroupMembers(group_id.clone()), vec![member("00u1"), member("00u2")]),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut at = store.writer.first_request_number();
        for (scope, rows) in lists {
            let state = match scope == Scope::Users && !reads_users {
                true => WalkState::GivenUp,
                false => {
                    WalkState::Finished { from: at, began: Timestamp::default(), known_empty: true, ended: Vec::new() }
                }
            };
            let walks = vec![WalkUpdate { scope, state }];
            let now = Timestamp::from_millis(1_770_000_000_000);
            let batch = Batch { now, at, rows, walks, ..Batch::default() };
            runtime.block_on(async { store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap() });
            at.0 += 1;
        }
        let policy = Arc::new(GrantPolicy::new(&GrantPolicySettings::default()).unwrap());
        let source = StatusSource::Direct(CredentialKind::ApiToken);
        let view = OrgView::new("acme", store.reader.clone(), SearchHandle::default(), policy, source).unwrap();
        let services = Services::new(Orgs::new([view]), || Timestamp::from_millis(1_770_000_000_000));
        Self { services, runtime, _store: store, _dir: dir }
    }

    #[track_caller]
    fn resolves(&self, name: &str, kind: v1::IdentifierKind, expected: ResolutionOutcome) {
        let app = v1::AppSelector { selector: Some(v1::app_selector::Selector::AppId("0oa1".to_owned())) };
        let identifier = v1::Identifier { value: name.to_owned(), kind: kind.into() };
        let account = v1::AccountSelector { app: Some(app), identifier: Some(identifier) };
        let request = v1::ResolveAccountRequest { account: Some(account), ..v1::ResolveAccountRequest::default() };
        let answer = self.runtime.block_on(self.services.lookup().resolve_account(Request::new(request))).unwrap();
        let resolution = answer.into_inner().resolution.unwrap();
        assert_eq!(resolution.outcome(), expected, "{name}");
        assert!(resolution.user.is_none() || expected == ResolutionOutcome::Resolved, "{name}");
    }

    #[track_caller]
    fn finds(&self, selector: v1::user_selector::Selector, expected: SubjectOutcome) {
        let user = Some(v1::UserSelector { selector: Some(selector) });
        let request = v1::GetUserRequest { user, ..v1::GetUserRequest::default() };
        let answer = self.runtime.block_on(self.services.lookup().get_user(Request::new(request))).unwrap();
        let subject = answer.into_inner().user.unwrap();
        assert_eq!(subject.outcome(), expected);
        assert_eq!(subject.user.is_some(), expected == SubjectOutcome::Found);
    }

    #[track_caller]
    fn is_member(&self, user: &str, group: &str, expected: v1::Membership) {
        let selector = Some(v1::user_selector::Selector::UserId(user.to_owned()));
        let question = v1::MembershipQuestion {
            user: Some(v1::UserSelector { selector }),
            target: Some(v1::membership_question::Target::GroupId(group.to_owned())),
        };
        let request = v1::CheckAppMembershipRequest { question: Some(question), ..Default::default() };
        let lookup = self.services.lookup();
        let answer = self.runtime.block_on(lookup.check_app_membership(Request::new(request))).unwrap();
        assert_eq!(answer.into_inner().answer.unwrap().membership(), expected, "{user} in {group}");
    }
}

#[test]
fn who_is_filtered_is_not_called_unknown() {
    use v1::IdentifierKind::{Email, ExternalId, UserName};
    use v1::user_selector::Selector::{Login, UserId};
    let world = World::new(true);
    world.resolves("in", UserName, ResolutionOutcome::Resolved);
    world.resolves("out", UserName, ResolutionOutcome::Filtered);
    world.resolves("OUT", UserName, ResolutionOutcome::NotFound);
    world.resolves("2", ExternalId, ResolutionOutcome::Filtered);
    world.resolves("out", ExternalId, ResolutionOutcome::NotFound);
    world.resolves("Out@Outside.TEST", Email, ResolutionOutcome::Filtered);
    world.resolves("mail.out@outside.test", Email, ResolutionOutcome::Filtered);
    // Nothing is concluded from the domain: only who was seen is known.
    world.resolves("nobody@outside.test", Email, ResolutionOutcome::NotFound);
    world.finds(UserId("00u1".to_owned()), SubjectOutcome::Found);
    world.finds(UserId("00u2".to_owned()), SubjectOutcome::Filtered);
    world.finds(UserId("00u3".to_owned()), SubjectOutcome::NotFound);
    world.finds(Login("OUT@outside.test".to_owned()), SubjectOutcome::Filtered);
    world.finds(Login("mail.out@outside.test".to_owned()), SubjectOutcome::NotFound);
    world.is_member("00u1", "00g1", v1::Membership::Yes);
    world.is_member("00u2", "00g1", v1::Membership::No);
    world.is_member("00u1", "00g2", v1::Membership::No);
}

#[test]
fn a_gap_beside_a_filter_is_still_a_gap() {
    use v1::IdentifierKind::UserName;
    let world = World::new(false);
    world.resolves("in", UserName, ResolutionOutcome::Resolved);
    world.resolves("out", UserName, ResolutionOutcome::Filtered);
    world.resolves("nobody", UserName, ResolutionOutcome::UnknownGap);
    world.finds(v1::user_selector::Selector::UserId("00u3".to_owned()), SubjectOutcome::UnknownGap);
}
