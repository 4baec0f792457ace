//! System Log events, reduced to what can be a hint: no names, no addresses. Entry point: [`decode`].
//!
//! Every part but the uuid and the type may be null, `{}`, a string or missing (facts 8.2, 15.12).

use super::lenient::{Field, Items, NESTED_ITEMS_MAX, lenient_object};
use super::record::{Unusable, date, required};
pub use crate::core::event::{LogEvent, LogTarget, TARGETS_MAX};

/// Keys of `debugContext.debugData` that are kept. The map is unstable and may hold personal data (facts 8.2, 8.3, 15.13).
pub const DEBUG_KEYS_KEPT: [&str; 5] =
    ["privilegeGranted", "changedAttributes", "groupAppAssignmentId", "triggeredByGroupRuleId", "requestId"];

/// Longest kept value of `debugData`, in bytes; a longer one is dropped, the event stays.
const DEBUG_VALUE_BYTES_MAX: usize = 4 * 1024;

// One more is decoded, to tell that there are more.
const _: () = assert!(NESTED_ITEMS_MAX > TARGETS_MAX);

/// Longest target id or type that is kept, in bytes; a target with a longer one is dropped.
const TARGET_WORD_BYTES_MAX: usize = 256;

lenient_object! {
    /// The wanted part of an event.
    EventBody<'a> {
        uuid: Field<'a> = "uuid",
        published: Field<'a> = "published",
        event_type: Field<'a> = "eventType",
        outcome: Outcome<'a> = "outcome",
        target: Items<TargetBody<'a>> = "target",
        transaction: Transaction<'a> = "transaction",
        debug_context: DebugContext<'a> = "debugContext",
    }
}

lenient_object! {
    /// How it ended.
    Outcome<'a> { result: Field<'a> = "result", }
}

lenient_object! {
    /// A target.
    TargetBody<'a> { id: Field<'a> = "id", target_type: Field<'a> = "type", detail: TargetDetail<'a> = "detailEntry", }
}

lenient_object! {
    /// The ids among a target's details.
    TargetDetail<'a> { user_id: Field<'a> = "user_id", app_instance_id: Field<'a> = "app_instance_id", }
}

lenient_object! {
    /// What caused it.
    Transaction<'a> { transaction_type: Field<'a> = "type", detail: TransactionDetail<'a> = "detail", }
}

lenient_object! {
    /// The credential that caused it.
    TransactionDetail<'a> { api_token: Field<'a> = "requestApiTokenId", }
}

lenient_object! {
    /// The frame of the debug data.
    DebugContext<'a> { data: DebugData<'a> = "debugData", }
}

lenient_object! {
    /// The allow-list of the debug data, in the order of [`DEBUG_KEYS_KEPT`].
    DebugData<'a> {
        privilege_granted: Field<'a> = "privilegeGranted",
        changed_attributes: Field<'a> = "changedAttributes",
        group_app_assignment_id: Field<'a> = "groupAppAssignmentId",
        triggered_by_group_rule_id: Field<'a> = "triggeredByGroupRuleId",
        request_id: Field<'a> = "requestId",
    }
}

pub(super) fn decode(body: &EventBody<'_>) -> Result<LogEvent, Unusable> {
    let data = &body.debug_context.data;
    let debug_values = [
        &data.privilege_granted,
        &data.changed_attributes,
        &data.group_app_assignment_id,
        &data.triggered_by_group_rule_id,
        &data.request_id,
    ];
    let debug_data = DEBUG_KEYS_KEPT.into_iter().zip(debug_values);
    let debug_data = debug_data.filter_map(|(key, field)| Some((key, short(field, DEBUG_VALUE_BYTES_MAX)?))).collect();
    Ok(LogEvent {
        uuid: required("uuid", &body.uuid)?,
        published: date(&body.published),
        event_type: required("eventType", &body.event_type)?,
        outcome: word(&body.outcome.result).map(|result| result.to_ascii_uppercase().into()),
        transaction_type: word(&body.transaction.transaction_type),
        api_token: word(&body.transaction.detail.api_token),
        targets: body.target.0.iter().filter_map(target).take(TARGETS_MAX).collect(),
        targets_cut: body.target.0.len() > TARGETS_MAX,
        debug_data,
    })
}

fn target(body: &TargetBody<'_>) -> Option<LogTarget> {
    Some(LogTarget {
        target_type: word(&body.target_type)?,
        id: word(&body.id)?,
        detail_user_id: word(&body.detail.user_id),
        detail_app_id: word(&body.detail.app_instance_id),
    })
}

fn word(field: &Field<'_>) -> Option<Box<str>> {
    short(field, TARGET_WORD_BYTES_MAX)
}

fn short(field: &Field<'_>, bytes_max: usize) -> Option<Box<str>> {
    field.text().filter(|text| text.len() <= bytes_max).map(|text| Box::from(&*text))
}
