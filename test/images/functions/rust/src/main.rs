//! A function that counts its calls: in its process, and in the files of its container.

use std::fs::{OpenOptions, metadata};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

static CALLS: AtomicU64 = AtomicU64::new(0);

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let calls = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    OpenOptions::new().append(true).create(true).open("/tmp/kept")?.write_all(b"x")?;
    tokio::time::sleep(Duration::from_secs_f64(event.payload["sleep"].as_f64().unwrap_or(0.0))).await;
    Ok(json!({ "calls": calls, "kept": metadata("/tmp/kept")?.len() }))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handle)).await
}
