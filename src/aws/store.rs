//! One DynamoDB item a scheduler: `scheduler` (key), `version`, `state`, `updated_at`, `writer`.
//!
//! Needs `dynamodb:GetItem` and `dynamodb:PutItem` on the table, nothing else. PutItem replaces
//! the whole item, which is meant: every attribute is the watchdog's own, and what a newer
//! version of it adds lives inside `state`, whose unknown fields are kept. UpdateItem would keep
//! foreign attributes, at the price of one more permission.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;

use super::Aws;
use super::obstacle::Call;
use crate::state::{State, Unreadable};
use crate::world::{StoreError, Version};

/// Reads a scheduler's state; a new one at version 0 if there is no item.
///
/// The read is consistent: an older state could send a message twice.
pub(super) async fn load(
    aws: &Aws,
    table: &str,
    scheduler: &str,
) -> Result<(State, Version), StoreError> {
    let answer = (aws.dynamodb().get_item())
        .table_name(table)
        .key("scheduler", AttributeValue::S(scheduler.to_owned()))
        .consistent_read(true)
        .send()
        .await
        .map_err(|error| call("dynamodb:GetItem", &named(table), aws).error(&error))?;
    let Some(item) = answer.item else {
        return Ok((State::default(), 0));
    };
    let version = version_of(&item).ok_or_else(|| broken("its `version` is no number"))?;
    let text = text_of(&item, "state").ok_or_else(|| broken("its `state` is no text"))?;
    Ok((State::from_json(text)?, version))
}

/// Writes a scheduler's state if the item is still at `version`, and returns the new version.
pub(super) async fn save(
    aws: &Aws,
    table: &str,
    scheduler: &str,
    state: &State,
    version: Version,
    now: Timestamp,
) -> Result<Version, StoreError> {
    let next = version + 1;
    let writer = writer();
    let put = (aws.dynamodb().put_item())
        .table_name(table)
        .item("scheduler", AttributeValue::S(scheduler.to_owned()))
        .item("version", AttributeValue::N(next.to_string()))
        .item("state", AttributeValue::S(state.to_json()))
        .item("updated_at", AttributeValue::S(now.to_string()))
        .item("writer", AttributeValue::S(writer.clone()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let put = if version == 0 {
        // An item without a readable version is not overwritten either.
        put.condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", "scheduler")
    } else {
        put.condition_expression("#version = :version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", AttributeValue::N(version.to_string()))
    };
    let Err(error) = put.send().await else {
        return Ok(next);
    };
    if let Some(PutItemError::ConditionalCheckFailedException(lost)) = error.as_service_error() {
        // A retry of a write whose first try was done unseen loses against itself.
        let ours = (lost.item()).is_some_and(|item| text_of(item, "writer") == Some(&writer));
        return if ours {
            Ok(next)
        } else {
            Err(StoreError::Conflict)
        };
    }
    Err(StoreError::Call(
        call("dynamodb:PutItem", &named(table), aws).error(&error),
    ))
}

/// Tells one write from all others, those with the same state included: two invocations that
/// both think to have won would restart twice. The standard library seeds its hashers from the
/// system's randomness, which is random enough for that.
fn writer() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

fn named(table: &str) -> String {
    format!("table `{table}`")
}

fn call<'a>(action: &'a str, thing: &'a str, aws: &'a Aws) -> Call<'a> {
    Call {
        action,
        thing,
        remedy: "check WATCHDOG_TABLE",
        region: aws.region(),
    }
}

fn broken(why: &str) -> Unreadable {
    Unreadable::Broken {
        why: why.to_owned(),
    }
}

type Item = HashMap<String, AttributeValue>;

fn text_of<'a>(item: &'a Item, name: &str) -> Option<&'a String> {
    item.get(name)?.as_s().ok()
}

fn version_of(item: &Item) -> Option<Version> {
    item.get("version")?.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::config::http::HttpResponse;
    use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
    use aws_sdk_dynamodb::operation::put_item::PutItemOutput;
    use aws_smithy_mocks::{Rule, mock};

    use super::*;
    use crate::aws::testing::{self, dynamodb, json_error};
    use crate::snapshot::Obstacle;

    const NAME: &str = "app";

    fn aws(rules: &[&Rule]) -> Aws {
        let aws = testing::aws();
        aws.dynamodb.set(dynamodb(rules)).unwrap();
        aws
    }

    fn state() -> State {
        State {
            lags_ms: vec![1, 2, 3],
            ..State::default()
        }
    }

    /// An answer to GetItem with these attributes.
    fn stored(attributes: &'static [(&'static str, &'static str)]) -> Rule {
        mock!(Client::get_item).then_output(|| {
            let value = |name: &str, text: &str| match name {
                "version" => AttributeValue::N(text.to_owned()),
                _ => AttributeValue::S(text.to_owned()),
            };
            let item = (attributes.iter())
                .map(|(name, text)| ((*name).to_owned(), value(name, text)))
                .collect();
            GetItemOutput::builder().set_item(Some(item)).build()
        })
    }

    async fn saved(rule: &Rule, version: Version) -> Result<Version, StoreError> {
        save(
            &aws(&[rule]),
            "t",
            NAME,
            &state(),
            version,
            Timestamp::UNIX_EPOCH,
        )
        .await
    }

    #[tokio::test]
    async fn a_scheduler_without_an_item_is_new() {
        let rule = mock!(Client::get_item)
            .match_requests(|get| {
                get.consistent_read() == Some(true)
                    && get.table_name() == Some("t")
                    && get
                        .key()
                        .is_some_and(|key| key["scheduler"].as_s() == Ok(&NAME.to_owned()))
            })
            .then_output(|| GetItemOutput::builder().build());
        let loaded = load(&aws(&[&rule]), "t", NAME).await;
        assert_eq!(loaded, Ok((State::default(), 0)));
    }

    #[tokio::test]
    async fn what_was_written_is_read() {
        let rule = stored(&[
            ("scheduler", NAME),
            ("version", "7"),
            ("state", r#"{"schema":1,"lags_ms":[1,2,3],"later":true}"#),
        ]);
        let (state, version) = load(&aws(&[&rule]), "t", NAME).await.unwrap();
        assert_eq!((state.lags_ms.clone(), version), (vec![1, 2, 3], 7));
        assert!(
            state.to_json().contains(r#""later":true"#),
            "{}",
            state.to_json()
        );
    }

    #[tokio::test]
    async fn an_unreadable_item_is_said_to_be_so() {
        let items: [&'static [(&str, &str)]; 5] = [
            &[("state", r#"{"schema":1}"#)],
            &[("version", "1")],
            &[("version", "many"), ("state", r#"{"schema":1}"#)],
            &[("version", "1"), ("state", "{")],
            &[("version", "1"), ("state", r#"{"schema":99}"#)],
        ];
        for item in items {
            let loaded = load(&aws(&[&stored(item)]), "t", NAME).await;
            assert!(
                matches!(loaded, Err(StoreError::Unreadable(_))),
                "{loaded:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_first_write_must_find_nothing_and_a_later_one_its_version() {
        let first = mock!(Client::put_item)
            .match_requests(|put| {
                put.condition_expression() == Some("attribute_not_exists(#key)")
                    && put.item().is_some_and(|item| version_of(item) == Some(1))
            })
            .then_output(|| PutItemOutput::builder().build());
        assert_eq!(saved(&first, 0).await, Ok(1));
        let later = mock!(Client::put_item)
            .match_requests(|put| {
                let expected = put
                    .expression_attribute_values()
                    .map(|v| v[":version"].clone());
                put.condition_expression() == Some("#version = :version")
                    && expected == Some(AttributeValue::N("41".to_owned()))
                    && put.item().is_some_and(|item| {
                        version_of(item) == Some(42)
                            && text_of(item, "scheduler").is_some_and(|name| name == NAME)
                            && text_of(item, "state") == Some(&state().to_json())
                            && text_of(item, "updated_at").unwrap() == "1970-01-01T00:00:00Z"
                    })
            })
            .then_output(|| PutItemOutput::builder().build());
        assert_eq!(saved(&later, 41).await, Ok(42));
    }

    #[tokio::test]
    async fn the_loser_of_a_race_is_told_even_where_both_wrote_the_same() {
        let rule = mock!(Client::put_item)
            .sequence()
            .http_status(
                400,
                Some(format!(
                    r#"{{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                    "message":"The conditional request failed","Item":{{"version":{{"N":"2"}},
                    "state":{{"S":{}}},"writer":{{"S":"another"}}}}}}"#,
                    serde_json::Value::from(state().to_json())
                )),
            )
            .build();
        assert_eq!(saved(&rule, 1).await, Err(StoreError::Conflict));
    }

    /// The first try is done, its answer is lost; the retry finds the item that it wrote.
    #[tokio::test(start_paused = true)]
    async fn a_retried_write_does_not_lose_against_itself() {
        let written = Arc::new(Mutex::new(String::new()));
        let (kept, found) = (written.clone(), written);
        let rule = mock!(Client::put_item)
            .match_requests(move |put| {
                let writer = put.item().and_then(|item| text_of(item, "writer"));
                *kept.lock().unwrap() = writer.unwrap().clone();
                true
            })
            .sequence()
            .http_status(500, None)
            .http_response(move || {
                let body = serde_json::json!({
                    "__type": "ConditionalCheckFailedException",
                    "Item": { "writer": { "S": *found.lock().unwrap() } },
                });
                HttpResponse::new(400.try_into().unwrap(), body.to_string().into())
            })
            .build();
        assert_eq!((saved(&rule, 1).await, rule.num_calls()), (Ok(2), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn errors_name_the_table_or_the_permission() {
        let missing = mock!(Client::get_item)
            .sequence()
            .http_status(
                400,
                json_error("ResourceNotFoundException", "Requested resource not found"),
            )
            .build();
        let Err(StoreError::Call(error)) = load(&aws(&[&missing]), "state", NAME).await else {
            panic!("an error was expected");
        };
        assert_eq!(error.kind, Obstacle::Missing);
        assert_eq!(
            error.detail,
            "table `state` does not exist in ap-northeast-1: check WATCHDOG_TABLE"
        );

        let denied = mock!(Client::put_item)
            .sequence()
            .http_status(400, json_error("AccessDeniedException", "User: arn:aws:sts::1:assumed-role/R/S is not authorized to perform: dynamodb:PutItem on resource: arn:aws:dynamodb:ap-northeast-1:1:table/state because no identity-based policy allows the dynamodb:PutItem action"))
            .build();
        let Err(StoreError::Call(error)) = saved(&denied, 1).await else {
            panic!("an error was expected");
        };
        assert_eq!(error.kind, Obstacle::Denied);
        assert!(
            error.detail.starts_with(
                "dynamodb:PutItem on arn:aws:dynamodb:ap-northeast-1:1:table/state is denied"
            ),
            "{error}"
        );

        let throttled = mock!(Client::put_item)
            .sequence()
            .http_status(400, json_error("ThrottlingException", "Rate exceeded"))
            .times(3)
            .build();
        let Err(StoreError::Call(error)) = saved(&throttled, 1).await else {
            panic!("an error was expected");
        };
        assert_eq!(
            (error.kind, throttled.num_calls()),
            (Obstacle::Throttled, 3)
        );
    }
}
