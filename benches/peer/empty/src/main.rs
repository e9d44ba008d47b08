//! The least that a Lambda function in Rust does: what the runtime itself costs. Built like the
//! watchdog and measured beside it by `make bench`.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(
        |event: LambdaEvent<Value>| async move { Ok::<_, Error>(event.payload) },
    ))
    .await
}
