//! Groups and the counts that come with a list of them. Entry point: [`decode`].

use super::lenient::{Field, lenient_object};
use super::record::{Unusable, app_in_link, date, kept, required, required_id, word};
use crate::core::ids::{AppId, GroupId};
use crate::core::model::{Group, GroupStats, GroupType};

lenient_object! {
    /// The wanted part of a group (facts 3).
    GroupBody<'a> {
        id: Field<'a> = "id",
        group_type: Field<'a> = "type",
        created: Field<'a> = "created",
        last_updated: Field<'a> = "lastUpdated",
        last_membership_updated: Field<'a> = "lastMembershipUpdated",
        profile: GroupProfile<'a> = "profile",
        embedded: GroupEmbedded<'a> = "_embedded",
        links: GroupLinks<'a> = "_links",
    }
}

lenient_object! {
    /// Name and description.
    GroupProfile<'a> { name: Field<'a> = "name", description: Field<'a> = "description", }
}

lenient_object! {
    /// What `expand=stats,app` adds; it may be missing on any page (facts 0.1).
    GroupEmbedded<'a> { stats: StatsBody<'a> = "stats", app: SourceApp<'a> = "app", }
}

lenient_object! {
    /// Counts. The flag beside them, misspelt `hasAdminPrivlege` by the API, is wrong for custom roles and not read.
    StatsBody<'a> { users: Field<'a> = "usersCount", apps: Field<'a> = "appsCount", }
}

lenient_object! {
    /// The app that owns an imported group.
    SourceApp<'a> { id: Field<'a> = "id", }
}

lenient_object! {
    /// Links of a group.
    GroupLinks<'a> { source: Link<'a> = "source", }
}

lenient_object! {
    /// A link.
    Link<'a> { href: Field<'a> = "href", }
}

pub(super) fn decode(body: &GroupBody<'_>) -> Result<(Group, Option<GroupStats>), Unusable> {
    let embedded_app = body.embedded.app.id.text().and_then(|id| AppId::new(&id).ok());
    let group = Group {
        id: required_id("id", &body.id, GroupId::new)?,
        name: required("profile.name", &body.profile.name)?,
        description: kept("profile.description", &body.profile.description)?,
        group_type: GroupType::parse(&word("type", &body.group_type)?),
        source_app: embedded_app.or_else(|| app_in_link(&body.links.source.href)),
        created: date(&body.created),
        last_updated: date(&body.last_updated),
        last_membership_updated: date(&body.last_membership_updated),
    };
    let stats = &body.embedded.stats;
    let stats = stats.users.count().zip(stats.apps.count()).map(|(users, apps)| GroupStats { users, apps });
    Ok((group, stats))
}
