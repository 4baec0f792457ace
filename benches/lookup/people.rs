//! The made-up org as functions of numbers: who there is, in which apps and groups, under which names.
//!
//! Entry point: [`People`]. Nothing is kept: whoever fills the store and whoever asks computes the same.

use okta_idmap::core::ids::{AppId, GroupId, Timestamp, UserId};
use okta_idmap::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, User, UserStatus,
};

/// Accounts that a user has on average.
const ACCOUNTS_PER_USER: f64 = 5.0;

/// Groups beside `Everyone` that a user is in on average.
const GROUPS_PER_USER: f64 = 3.0;

const FIRST: [&str; 48] = [
    "Anna", "Ben", "Carla", "David", "Elif", "Fatima", "Georg", "Hana", "Igor", "Jane", "Kenji", "Lena", "Maria",
    "Noah", "Olga", "Pedro", "Quentin", "Rosa", "Samir", "Tara", "Umar", "Vera", "Wei", "Xenia", "Yusuf", "Zoë", "Åsa",
    "Björn", "Chloé", "Dmitri", "Emma", "Felix", "Grace", "Hugo", "Ines", "Jonas", "Klara", "Liam", "Mia", "Nils",
    "Oskar", "Paula", "Ravi", "Sofia", "Tomás", "Ursula", "Viktor", "Yara",
];
const LAST_BEGIN: [&str; 40] = [
    "Ander", "Bau", "Cas", "Dijk", "Eber", "Fisch", "Gar", "Hoff", "Ivan", "Jo", "Kauf", "Lind", "Mar", "Nor", "Ols",
    "Pet", "Quin", "Rich", "Schmid", "Tan", "Ull", "Vas", "Wag", "Xav", "Yama", "Zimmer", "Müll", "Kov", "Sing", "Gup",
    "Rodri", "Fern", "Gonz", "Nguy", "Tana", "Wat", "Silv", "Cost", "Mor", "Ber",
];
const LAST_END: [&str; 32] = [
    "son", "er", "mann", "ez", "ov", "ini", "sen", "berg", "ley", "ström", "ski", "ta", "moto", "ra", "gues", "andez",
    "en", "kin", "man", "ton", "feld", "stein", "hart", "ing", "ak", "is", "as", "os", "ard", "ell", "ick", "ow",
];

/// Spreads a number over 64 bits; no two numbers have the same.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// An id as Okta makes them: 20 characters of which 11 are drawn.
fn okta_id(prefix: &str, number: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = mixed(number ^ 0x5151);
    let mut id = prefix.to_owned();
    for _ in 0..11 {
        id.push(char::from(DIGITS[usize::try_from(rest % 62).unwrap_or(0)]));
        rest /= 62;
    }
    id.push_str("k7Sim1");
    id
}

/// Chances of `count` things that fall off like a power of their rank and make `total` together; none is above one.
fn shares(count: u64, total: f64, power: f64) -> Vec<u64> {
    let weights: Vec<f64> = (0..count).map(|rank| ((rank + 1) as f64).powf(-power)).collect();
    let total = total.min(count as f64 * 0.7);
    let sum = |scale: f64| weights.iter().map(|weight| (weight * scale).min(1.0)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if sum(middle) < total { low = middle } else { high = middle }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "chances are between 0 and 1")]
    weights.iter().map(|weight| ((weight * low).min(1.0) * u64::MAX as f64) as u64).collect()
}

/// The org.
pub(crate) struct People {
    pub(crate) users: u64,
    /// Chance of each app to be a user's.
    apps: Vec<u64>,
    /// Chance of each group to have a user.
    groups: Vec<u64>,
}

impl People {
    pub(crate) fn new(users: u64) -> Self {
        let apps = shares((users / 5_000).clamp(8, 200), ACCOUNTS_PER_USER, 0.9);
        let groups = shares((users / 500).clamp(8, 2_000), GROUPS_PER_USER, 0.8);
        Self { users, apps, groups }
    }

    pub(crate) fn apps(&self) -> u64 {
        self.apps.len() as u64
    }

    /// `Everyone` apart.
    pub(crate) fn groups(&self) -> u64 {
        self.groups.len() as u64
    }

    pub(crate) fn has_account(&self, user: u64, app: u64) -> bool {
        self.apps
            .get(usize::try_from(app).unwrap_or(usize::MAX))
            .is_some_and(|share| mixed(mixed(user) ^ app) <= *share)
    }

    pub(crate) fn is_member(&self, user: u64, group: u64) -> bool {
        let share = self.groups.get(usize::try_from(group).unwrap_or(usize::MAX));
        share.is_some_and(|share| mixed(mixed(user) ^ (group << 20) ^ (1 << 50)) <= *share)
    }

    pub(crate) fn apps_of(&self, user: u64) -> Vec<u64> {
        (0..self.apps()).filter(|app| self.has_account(user, *app)).collect()
    }
}

pub(crate) fn user_id(user: u64) -> String {
    okta_id("00u", user)
}

pub(crate) fn app_id(app: u64) -> String {
    okta_id("0oa", app)
}

fn group_id(group: u64) -> String {
    okta_id("00g", group)
}

pub(crate) fn first_name(user: u64) -> &'static str {
    // The lower of two: some names are common.
    let (one, other) = (mixed(user) % 48, mixed(user ^ 0xF0F0) % 48);
    FIRST[usize::try_from(one.min(other)).unwrap_or(0)]
}

pub(crate) fn last_name(user: u64) -> String {
    let drawn = mixed(user ^ 0xABCD);
    let (begin, end) = ((drawn % 40).min(drawn / 40 % 40), drawn / 1_600 % 32);
    let name = |list: &[&'static str], at: u64| list[usize::try_from(at).unwrap_or(0)];
    format!("{}{}", name(&LAST_BEGIN, begin), name(&LAST_END, end))
}

pub(crate) fn login(user: u64) -> String {
    let (first, last) = (first_name(user).to_lowercase(), last_name(user).to_lowercase());
    let ascii = |name: String| name.chars().map(|c| if c.is_ascii() { c } else { 'e' }).collect::<String>();
    format!("{}.{}{user}@example.com", ascii(first), ascii(last))
}

pub(crate) fn app_label(app: u64) -> String {
    format!("Application {app:03}")
}

/// Half of the apps go by e-mail address, a quarter by short names, a quarter by numbers.
pub(crate) fn user_name(user: u64, app: u64) -> String {
    match app % 4 {
        0 | 1 => login(user),
        2 => format!("{}{user}", login(user).chars().take(4).collect::<String>().replace('.', "")),
        // A prime as modulus: no two have the same number.
        _ => format!("E{:07}", user * 7_919_123 % 9_999_991),
    }
}

/// Apps with an even number tell their own ids.
pub(crate) fn external_id(user: u64, app: u64) -> Option<String> {
    app.is_multiple_of(2).then(|| okta_id("005", user ^ (app << 40)))
}

fn text(text: impl Into<String>) -> Option<Box<str>> {
    Some(text.into().into_boxed_str())
}

fn id<T, E: std::fmt::Debug>(made: Result<T, E>) -> T {
    made.unwrap()
}

/// One user in twenty cannot sign in.
pub(crate) fn is_active(user: u64) -> bool {
    !mixed(user ^ 0x77).is_multiple_of(20)
}

pub(crate) fn user(number: u64, now: Timestamp) -> User {
    User {
        id: id(UserId::new(&user_id(number))),
        status: if is_active(number) { UserStatus::Active } else { UserStatus::Suspended },
        login: text(login(number)),
        email: text(login(number)),
        second_email: None,
        first_name: text(first_name(number)),
        last_name: text(last_name(number)),
        display_name: None,
        created: Some(now.plus_millis(-1_000_000_000)),
        last_updated: Some(now.plus_millis(-500_000_000)),
        status_changed: Some(now.plus_millis(-900_000_000)),
    }
}

pub(crate) fn app(number: u64, now: Timestamp) -> App {
    App {
        id: id(AppId::new(&app_id(number))),
        name: format!("integration_{}", number / 2).into(),
        label: app_label(number).into(),
        status: AppStatus::Active,
        sign_on_mode: text("SAML_2_0"),
        features: vec!["PUSH_NEW_USERS".into()],
        credential_scheme: text("EDIT_USERNAME_AND_PASSWORD"),
        shared_user_name: None,
        user_name_template: text("${source.login}"),
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: Some(now.plus_millis(-1_000_000_000)),
        last_updated: Some(now.plus_millis(-500_000_000)),
    }
}

pub(crate) fn app_user(user: u64, app: u64, now: Timestamp) -> AppUser {
    let is_direct = mixed(user ^ app).is_multiple_of(3);
    AppUser {
        app: id(AppId::new(&app_id(app))),
        user: id(UserId::new(&user_id(user))),
        user_name: text(user_name(user, app)),
        external_id: external_id(user, app).map(Into::into),
        email: if app.is_multiple_of(4) { text(login(user)) } else { None },
        status: AppUserStatus::Active,
        scope: if is_direct { AssignmentScope::User } else { AssignmentScope::Group },
        sync_state: text("SYNCHRONIZED"),
        via_group: (!is_direct).then(|| id(GroupId::new(&group_id(app % 8)))),
        created: Some(now.plus_millis(-1_000_000_000)),
        last_updated: Some(now.plus_millis(-500_000_000)),
        status_changed: Some(now.plus_millis(-900_000_000)),
    }
}

/// The last number is `Everyone`.
pub(crate) fn group(number: u64, people: &People, now: Timestamp) -> Group {
    let is_everyone = number == people.groups();
    Group {
        id: id(GroupId::new(&group_id(number))),
        name: if is_everyone { "Everyone".into() } else { format!("Team {number:04}").into() },
        description: None,
        group_type: if is_everyone { GroupType::BuiltIn } else { GroupType::OktaGroup },
        source_app: None,
        created: Some(now.plus_millis(-1_000_000_000)),
        last_updated: Some(now.plus_millis(-500_000_000)),
        last_membership_updated: None,
    }
}

pub(crate) fn member(user: u64, group: u64) -> GroupMember {
    GroupMember { group: id(GroupId::new(&group_id(group))), user: id(UserId::new(&user_id(user))) }
}

/// An app has a few groups; every tenth is open to everybody.
pub(crate) fn groups_of_app(app: u64, people: &People) -> Vec<AppGroup> {
    let mut groups: Vec<u64> = (0..=mixed(app) % 5).map(|place| mixed(app ^ (place << 32)) % people.groups()).collect();
    if app % 10 == 9 {
        groups.push(people.groups());
    }
    groups.sort_unstable();
    groups.dedup();
    let row = |group: u64| AppGroup {
        app: id(AppId::new(&app_id(app))),
        group: id(GroupId::new(&group_id(group))),
        priority: None,
        last_updated: None,
    };
    groups.into_iter().map(row).collect()
}
