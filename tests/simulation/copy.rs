//! A client's copy beside a connector that follows an org. Entry point: [`goes_along`].

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use okta_idmap::client::{Answer, Client, Options, Reflector, ReflectorSettings, Retry};
use okta_idmap_proto::limits::BATCH_ITEMS_MAX;
use okta_idmap_proto::v1::{self, ResolutionOutcome, acl_entry, app_group_selector};
use okta_sim::Org;

use crate::door::Door;
use crate::runs::{NEVER, Run};
use crate::story::Story;

/// A copy that is right is so within a second or two; beside many other runs within this time.
const SAME_WAIT_MAX: Duration = Duration::from_secs(120);

/// Names that are asked for in each app, at most.
const NAMES_MAX: usize = 40;

/// Changes that events tell, all troubles; the server stops and is cut off, the client starts again from its file.
pub(crate) async fn goes_along(seed: u64, story: Story) {
    let mut run = Run::begin(seed, story, None, NEVER).await;
    let directory = tempfile::tempdir().unwrap();
    let door = Door::open(run.engine().address()).await;
    let start = || {
        let retry =
            Retry { attempts_max: u32::MAX, wait_min: Duration::from_millis(20), wait_max: Duration::from_millis(200) };
        let settings = ReflectorSettings {
            file: Some(directory.path().join("copy")),
            retry,
            save_every: Duration::from_millis(200),
            ..ReflectorSettings::default()
        };
        Reflector::start(Client::lazy(&Options::new(&door.url()).unwrap()).unwrap(), settings)
    };
    let mut copy = start();
    for _ in 0..run.random.u8(2..=4) {
        run.burst(Org::random_loud_mutation).await;
        door.lead_to(Some(run.engine().address()));
        match run.random.u8(0..4) {
            0 => {
                copy.stop().await;
                copy = start();
                run.story.tell("the client has started again");
            }
            1 => {
                drop(copy);
                copy = start();
                run.story.tell("the client was cut off and has started again");
            }
            _ => {}
        }
    }
    run.calm();
    if !run.was_hidden {
        run.converge(0).await;
    }
    compare(&run, &copy, &door).await;
    copy.stop().await;
    run.end().await;
}

/// Waits until the copy answers what the server answers, for names that there are, that there are nearly, and that nobody has.
async fn compare(run: &Run, copy: &Reflector, door: &Door) {
    copy.ready(SAME_WAIT_MAX).await.unwrap();
    let client = Client::lazy(&Options::new(&door.url()).unwrap()).unwrap();
    let begun = Instant::now();
    loop {
        let questions = questions(&client).await;
        assert!(questions.len() > 10, "{} questions", questions.len());
        let difference = match difference(&client, copy, &questions).await {
            None => difference_of_principals(&client, copy, &questions).await,
            found => found,
        };
        let Some(difference) = difference else { break };
        if begun.elapsed() > SAME_WAIT_MAX {
            let state = copy.state().borrow().clone();
            panic!("not the same after {SAME_WAIT_MAX:?}: {difference}\n{state:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    run.story.tell(format!("the copy is the same after {:?}", begun.elapsed()));
}

async fn difference(client: &Client, copy: &Reflector, questions: &[v1::ResolveAccountRequest]) -> Option<String> {
    for request in questions {
        let server = client.resolve_account(request.clone()).await.unwrap().resolution.unwrap();
        let found = copy.read(|mirror, _| mirror.resolve(request, mirror.served_at())).unwrap().unwrap();
        let is_same = match &found {
            Answer::Local(found) => found.resolution.as_ref() == Some(&server),
            // Under a filter nothing else is said of names that nobody has.
            Answer::OnlyServerKnows => matches!(
                server.outcome(),
                ResolutionOutcome::Filtered | ResolutionOutcome::NotFound | ResolutionOutcome::UnknownGap
            ),
        };
        if !is_same {
            return Some(format!("{request:?}\ncopy:   {found:?}\nserver: {server:?}"));
        }
    }
    None
}

/// The same of the principals of everybody who has an account, of documents that are shared with some of them, and of one that
/// is shared with each group of an app, by id and by name.
async fn difference_of_principals(
    client: &Client,
    copy: &Reflector,
    questions: &[v1::ResolveAccountRequest],
) -> Option<String> {
    // What the server says of an answer as a whole, but for the moment.
    let of_meta = |meta: Option<v1::ResponseMeta>| meta.map(|meta| (meta.completeness, meta.gap_ids, meta.gap_count));
    for question in questions {
        let selector = question.account.clone().map(v1::user_selector::Selector::Account);
        let request = v1::ExpandUserRequest { context: None, user: Some(v1::UserSelector { selector }) };
        let mut server = client.expand_user(request.clone()).await.unwrap();
        let found = copy.read(|mirror, _| mirror.expand_user(&request, mirror.served_at())).unwrap().unwrap();
        let is_same = match found.clone() {
            Answer::Local(mut found) => {
                let (here, there) = (of_meta(found.meta.take()), of_meta(server.meta.take()));
                *found == server && here == there
            }
            Answer::OnlyServerKnows => server.match_nothing,
        };
        if !is_same {
            return Some(format!("{request:?}\ncopy:   {found:?}\nserver: {server:?}"));
        }
    }
    let accounts = |questions: &[v1::ResolveAccountRequest]| -> Vec<v1::AclEntry> {
        let accounts = questions.iter().filter_map(|question| question.account.clone());
        accounts.map(|account| v1::AclEntry { principal: Some(acl_entry::Principal::Account(account)) }).collect()
    };
    let mut documents: Vec<Vec<v1::AclEntry>> = questions.chunks(7).map(accounts).collect();
    documents.push(groups_of_apps(client, questions).await);
    for entries in documents {
        let request = v1::ResolveAclRequest { context: None, entries };
        let mut server = client.resolve_acl(request.clone()).await.unwrap();
        let found = copy.read(|mirror, _| mirror.resolve_acl(&request, mirror.served_at())).unwrap().unwrap();
        let is_same = match found.clone() {
            Answer::Local(mut found) => {
                let (here, there) = (of_meta(found.meta.take()), of_meta(server.meta.take()));
                *found == server && here == there
            }
            Answer::OnlyServerKnows => !server.unresolved.is_empty(),
        };
        if !is_same {
            return Some(format!("{request:?}\ncopy:   {found:?}\nserver: {server:?}"));
        }
    }
    None
}

/// Each group in each app, by id and by name.
async fn groups_of_apps(client: &Client, questions: &[v1::ResolveAccountRequest]) -> Vec<v1::AclEntry> {
    let mut entries = Vec::new();
    let mut pages = pin!(client.group_pages(v1::ListGroupsRequest::default(), 100));
    while let Some(page) = pages.next().await {
        for group in page.unwrap().groups {
            let mut known: Vec<&v1::AppSelector> = Vec::new();
            for app in questions.iter().filter_map(|question| question.account.as_ref()?.app.as_ref()) {
                if known.contains(&app) {
                    continue;
                }
                known.push(app);
                let selectors = [
                    app_group_selector::Selector::GroupId(group.id.clone()),
                    app_group_selector::Selector::Name(group.name.clone()),
                ];
                entries.extend(selectors.map(|selector| {
                    let selector = v1::AppGroupSelector { app: Some(app.clone()), selector: Some(selector) };
                    v1::AclEntry { principal: Some(acl_entry::Principal::AppGroup(selector)) }
                }));
            }
        }
    }
    entries.truncate(BATCH_ITEMS_MAX);
    entries
}

async fn questions(client: &Client) -> Vec<v1::ResolveAccountRequest> {
    let mut apps = Vec::new();
    let mut pages = pin!(client.app_pages(v1::ListAppsRequest::default(), 100));
    while let Some(page) = pages.next().await {
        apps.extend(page.unwrap().apps.into_iter().map(|app| app.id));
    }
    let mut questions = Vec::new();
    for app in apps.iter().map(String::as_str).chain(["no such app"]) {
        let selector = Some(v1::AppSelector { selector: Some(v1::app_selector::Selector::Any(app.to_owned())) });
        let mut names: BTreeSet<String> = ["nobody", "nobody@acme.example"].map(str::to_owned).into();
        let request = v1::ListAppUsersRequest { app: selector.clone(), ..v1::ListAppUsersRequest::default() };
        let mut pages = pin!(client.app_user_pages(request, 100));
        while let Some(page) = pages.next().await {
            for account in page.unwrap().accounts {
                let (row, user) = (account.app_user.unwrap(), account.user.unwrap());
                let shouted = row.user_name.to_uppercase();
                names.extend([row.user_name, row.external_id, row.email, user.login, user.email, shouted]);
            }
        }
        names.remove("");
        for value in names.into_iter().take(NAMES_MAX) {
            let identifier = Some(v1::Identifier { value, kind: v1::IdentifierKind::Unspecified.into() });
            let account = Some(v1::AccountSelector { app: selector.clone(), identifier });
            let request = v1::ResolveAccountRequest { account, include_candidates: true, ..Default::default() };
            questions.push(request);
        }
    }
    questions
}
