//! The table in which the watchdog keeps its state.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::aws::{Aws, DYNAMODB};

pub struct StateTable<'a> {
    aws: &'a Aws,
    pub name: String,
}

impl<'a> StateTable<'a> {
    /// A table that is there.
    pub fn of(aws: &'a Aws, name: &str) -> Self {
        Self {
            aws,
            name: name.to_owned(),
        }
    }

    /// A new table with the template's key.
    pub fn create(aws: &'a Aws, name: &str) -> Self {
        let create = json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "scheduler", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "scheduler", "AttributeType": "S"}],
        });
        aws.json(&DYNAMODB, "CreateTable", &create);
        Self::of(aws, name)
    }

    /// A scheduler's whole item.
    pub fn item(&self, scheduler: &str) -> Option<Value> {
        let get = json!({
            "TableName": self.name,
            "Key": {"scheduler": {"S": scheduler}},
            "ConsistentRead": true,
        });
        let mut answer = self.aws.json(&DYNAMODB, "GetItem", &get);
        answer.get_mut("Item").map(Value::take)
    }

    /// Writes a whole item.
    pub fn put(&self, item: &Value) {
        let put = json!({"TableName": self.name, "Item": item});
        self.aws.json(&DYNAMODB, "PutItem", &put);
    }

    /// Forgets a scheduler.
    pub fn delete(&self, scheduler: &str) {
        let delete = json!({"TableName": self.name, "Key": {"scheduler": {"S": scheduler}}});
        self.aws.json(&DYNAMODB, "DeleteItem", &delete);
    }

    /// A scheduler's state document.
    pub fn state(&self, scheduler: &str) -> Value {
        let item = self.item(scheduler);
        let item = item.unwrap_or_else(|| panic!("no state of {scheduler}"));
        serde_json::from_str(item["state"]["S"].as_str().unwrap()).unwrap()
    }

    /// Makes the watchdog's last look, and what it then decided, so many minutes older. Looks within a
    /// minute count as one, and a restart waits for some minutes; the tests do not. What the log and
    /// ECS say is not touched.
    pub fn pass_minutes(&self, scheduler: &str, minutes: i64) {
        let mut item = self.item(scheduler).unwrap();
        let mut state = self.state(scheduler);
        let age = SignedDuration::from_mins(minutes);
        let earlier = |time: &mut Value| {
            if let Some(at) = time
                .as_str()
                .and_then(|text| text.parse::<Timestamp>().ok())
            {
                *time = Value::from((at - age).to_string());
            }
        };
        earlier(&mut state["looked_at"]);
        for incident in state["incidents"].as_array_mut().into_iter().flatten() {
            for field in [
                "found_at",
                "fired_at",
                "steady_since",
                "condition_since",
                "notified_at",
            ] {
                if incident.get(field).is_some() {
                    earlier(&mut incident[field]);
                }
            }
        }
        for attempt in (state["restarts"]["attempts"].as_array_mut().into_iter()).flatten() {
            earlier(&mut attempt["claimed_at"]);
        }
        item["state"] = json!({"S": state.to_string()});
        self.put(&item);
    }

    /// Makes the next look count.
    pub fn pass_a_minute(&self, scheduler: &str) {
        self.pass_minutes(scheduler, 1);
    }
}
