//! Lists that were read to their end but for some records: what is said of the rows that were read, and of the others.
//!
//! Entry point: [`Org`], a world and its server under one policy.

use std::collections::BTreeSet;

use okta_idmap::core::coverage::{CoveragePolicy, GapKind, OnGap};
use okta_idmap::core::ids::{AppId, GroupId};
use okta_idmap::core::model::{Row, Scope};
use okta_idmap_proto::v1;
use tonic::transport::Channel;

use super::world::{
    Server, USERS, World, account, app, app_by_id, app_user, member, user, user_by_id, user_by_login, user_id,
};

type Lookup = v1::lookup_client::LookupClient<Channel>;

/// Who is asked for: has an account in Jira EU, and is in the group `00geng`.
const BAD: &str = "00u0004";
const GOOD: &str = "00u0006";

struct Org {
    server: Server,
    lookup: Lookup,
}

impl Org {
    async fn under(world: &World, on_gap: OnGap) -> Self {
        let policy = CoveragePolicy { on_gap, ..CoveragePolicy::default() };
        let server = Server::start([world.view().with_coverage_policy(policy)]).await;
        Self { lookup: server.lookup().await, server }
    }

    /// The outcome of a user's account in Jira EU, with a mark where it rests on a stale row; the gaps of it exist.
    async fn resolve(&mut self, name: &str) -> String {
        let account = account("0oaeu", name, v1::IdentifierKind::UserName);
        let request = v1::ResolveAccountRequest { account, ..Default::default() };
        let resolution = self.lookup.resolve_account(request).await.unwrap().into_inner().resolution.unwrap();
        self.check_gaps(&resolution.gap_ids).await;
        let is_stale = resolution.warnings.contains(&v1::ResolutionWarning::Stale.into());
        let outcome = resolution.outcome().as_str_name().trim_start_matches("RESOLUTION_OUTCOME_").to_lowercase();
        format!("{outcome}{}", if is_stale { "~" } else { "" })
    }

    /// All names are those of gaps that the server shows.
    async fn check_gaps(&self, gap_ids: &[String]) {
        if gap_ids.is_empty() {
            return; // The question would be for all.
        }
        let request = v1::ListGapsRequest { gap_ids: gap_ids.to_vec(), page_size: 1_000, ..Default::default() };
        let shown = self.server.coverage().await.list_gaps(request).await.unwrap().into_inner().gaps;
        let shown: BTreeSet<&String> = shown.iter().map(|gap| &gap.id).collect();
        assert_eq!(shown, gap_ids.iter().collect());
    }

    /// What four questions about a user say that rests on its row: outcome and gaps, the same each time.
    async fn user(&mut self, selector: Option<v1::UserSelector>) -> String {
        fn said(
            meta: Option<v1::ResponseMeta>,
            user: Option<v1::UserSubject>,
        ) -> (v1::SubjectOutcome, Vec<String>, bool) {
            let user = user.unwrap();
            (user.outcome(), meta.unwrap().gap_ids, user.user.is_some_and(|user| user.stale))
        }
        let user = || selector.clone();
        let got = self.lookup.get_user(v1::GetUserRequest { user: user(), ..Default::default() }).await.unwrap();
        let got = got.into_inner();
        let said_first = said(got.meta, got.user);
        let asked = v1::ExpandUserRequest { user: user(), ..Default::default() };
        let expanded = self.lookup.expand_user(asked).await.unwrap().into_inner();
        assert_eq!(expanded.match_nothing, said_first.0 != v1::SubjectOutcome::Found);
        let asked = v1::ListUserAccountsRequest { user: user(), ..Default::default() };
        let accounts = self.lookup.list_user_accounts(asked).await.unwrap().into_inner();
        let asked = v1::ListUserGroupsRequest { user: user(), ..Default::default() };
        let groups = self.lookup.list_user_groups(asked).await.unwrap().into_inner();
        for (meta, user) in [(expanded.meta, expanded.user), (accounts.meta, accounts.user), (groups.meta, groups.user)]
        {
            assert_eq!(said(meta, user), said_first);
        }
        let (outcome, gap_ids, is_stale) = said_first;
        self.check_gaps(&gap_ids).await;
        let outcome = outcome.as_str_name().trim_start_matches("SUBJECT_OUTCOME_").to_lowercase();
        format!("{outcome}{} {}", if is_stale { "~" } else { "" }, gap_ids.join(" "))
    }

    async fn stale_counts(&self) -> Vec<u64> {
        let status = self.server.coverage().await.get_status(v1::GetStatusRequest::default()).await.unwrap();
        let counts = status.into_inner().status.unwrap().store.unwrap().row_counts;
        counts.iter().map(|count| count.stale_row_count).collect()
    }

    async fn members(&mut self, group: &str) -> Vec<(String, bool)> {
        let request =
            v1::ListGroupMembersRequest { group_id: group.to_owned(), page_size: 1_000, ..Default::default() };
        let members = self.lookup.list_group_members(request).await.unwrap().into_inner().members;
        members.into_iter().map(|member| (member.user.unwrap().id, member.membership_stale)).collect()
    }
}

fn all_users_but(left_out: &[&str]) -> Vec<Row> {
    (0..USERS).filter(|n| !left_out.contains(&&*user_id(*n))).map(|n| Row::User(user(n))).collect()
}

#[tokio::test]
async fn one_bad_record_makes_one_row_stale() {
    let world = World::crawled().await;
    world.read_but(Scope::Users, all_users_but(&[BAD]), &[Some(BAD)]).await;
    let mut kept = Org::under(&world, OnGap::Keep).await;
    assert_eq!(kept.stale_counts().await, [1, 0, 0, 0, 0, 0]);
    assert_eq!(kept.resolve("user6").await, "resolved");
    assert_eq!(kept.resolve("user4").await, "resolved~");
    assert_eq!(kept.resolve("nobody").await, "unknown_gap", "it may be the one of the bad record");
    assert_eq!(kept.user(user_by_id(GOOD)).await, "found FAILED:users");
    assert_eq!(kept.user(user_by_id(BAD)).await, "found~ FAILED:users");
    let mut strict = Org::under(&world, OnGap::Withhold).await;
    assert_eq!(strict.resolve("user6").await, "resolved");
    assert_eq!(strict.resolve("user4").await, "unknown_gap");
    assert_eq!(strict.user(user_by_id(GOOD)).await, "found FAILED:users");
    assert_eq!(strict.user(user_by_id(BAD)).await, "unknown_gap FAILED:users");
    assert_eq!(strict.user(user_by_login("user6@example.com")).await, "found FAILED:users");
    assert_eq!(strict.user(user_by_login("user4@example.com")).await, "unknown_gap FAILED:users");
    let of_everyone = strict.members("00gall").await;
    assert_eq!(of_everyone.len(), USERS - 1);
    assert!(of_everyone.iter().all(|(user, stale)| user != BAD && !stale));
    assert_eq!(kept.members("00gall").await.iter().filter(|(user, stale)| *stale && user == BAD).count(), 1);
    // The list breaks off: nobody knows of any row whether it is as it was.
    world.open_gap(Scope::Users, GapKind::Failed, "GET /api/v1/users: 503").await;
    assert_eq!(kept.stale_counts().await, [USERS as u64, 0, 0, 0, 0, 0]);
    assert_eq!(kept.resolve("user6").await, "resolved~");
    assert_eq!(strict.resolve("user6").await, "unknown_gap");
    // Rows that are kept back are no users whom nobody has seen.
    for id in [GOOD, BAD] {
        assert_eq!(strict.user(user_by_id(id)).await, "unknown_gap FAILED:users");
    }
    assert_eq!(kept.user(user_by_id(GOOD)).await, "found~ FAILED:users");
    // It is read to its end again; then the record is good again.
    world.read_but(Scope::Users, all_users_but(&[BAD]), &[Some(BAD)]).await;
    assert_eq!(
        (strict.resolve("user6").await, strict.resolve("user4").await),
        ("resolved".into(), "unknown_gap".into())
    );
    world.read(Scope::Users, all_users_but(&[])).await;
    assert_eq!((strict.resolve("user6").await, strict.resolve("user4").await), ("resolved".into(), "resolved".into()));
    assert_eq!(strict.user(user_by_id(BAD)).await, "found ");
    assert_eq!(kept.stale_counts().await, [0; 6]);
}

#[tokio::test]
async fn of_a_record_without_an_id_any_row_that_was_not_shown_may_be_the_one() {
    let world = World::crawled().await;
    world.read_but(Scope::Users, all_users_but(&[BAD, "00u0008"]), &[None]).await;
    let mut strict = Org::under(&world, OnGap::Withhold).await;
    assert_eq!(strict.stale_counts().await, [2, 0, 0, 0, 0, 0]);
    assert_eq!(strict.resolve("user6").await, "resolved");
    assert_eq!(strict.user(user_by_id(GOOD)).await, "found FAILED:users");
    for id in [BAD, "00u0008"] {
        assert_eq!(strict.user(user_by_id(id)).await, "unknown_gap FAILED:users");
    }
}

#[tokio::test]
async fn every_kind_of_list_has_its_own_rows() {
    let world = World::crawled().await;
    let accounts = (0..USERS).step_by(2).map(user_id).chain(["00ughost".to_owned()]).filter(|id| id != BAD);
    let accounts =
        accounts.map(|id| Row::AppUser(app_user("0oaeu", &id, &format!("user{}", id[3..].trim_start_matches('0')))));
    let accounts: Vec<Row> = accounts.collect();
    world.read_but(Scope::AppUsers(AppId::new("0oaeu").unwrap()), accounts, &[Some(BAD)]).await;
    let members = (0..120).map(user_id).chain(["00ughost".to_owned()]).filter(|id| id != BAD);
    let members = members.map(|id| member("00geng", &id)).collect();
    world.read_but(Scope::GroupMembers(GroupId::new("00geng").unwrap()), members, &[Some(BAD)]).await;
    let apps =
        [("0oaeu", "jira", "Jira EU"), ("0oaus", "jira", "Jira US")].map(|(id, name, label)| app(id, name, label));
    let bad = [Some("0oashare"), Some("0oaoff")];
    world.read_but(Scope::Apps, apps.into_iter().map(Row::App).collect(), &bad).await;
    let mut kept = Org::under(&world, OnGap::Keep).await;
    assert_eq!(kept.stale_counts().await, [0, 0, 2, 1, 1, 0]);
    assert_eq!((kept.resolve("user6").await, kept.resolve("user4").await), ("resolved".into(), "resolved~".into()));
    let stale: Vec<String> =
        kept.members("00geng").await.into_iter().filter(|(_, stale)| *stale).map(|(user, _)| user).collect();
    assert_eq!(stale, [BAD]);
    let mut strict = Org::under(&world, OnGap::Withhold).await;
    assert_eq!(
        (strict.resolve("user6").await, strict.resolve("user4").await),
        ("resolved".into(), "unknown_gap".into())
    );
    assert_eq!(strict.members("00geng").await.len(), 120);
    let apps = strict.lookup.list_apps(v1::ListAppsRequest::default()).await.unwrap().into_inner().apps;
    assert_eq!(apps.iter().map(|app| &*app.id).collect::<Vec<_>>(), ["0oaeu", "0oaus"]);
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaeu"), page_size: 1_000, ..Default::default() };
    let accounts = strict.lookup.list_app_users(request).await.unwrap().into_inner().accounts;
    assert!(accounts.len() == 125 && accounts.iter().all(|account| !account.app_user.as_ref().unwrap().stale));
}
