//! Typed messages that are read where they lie. A survey of the sky of a mebibyte is made once, in shared
//! memory, and sent twice. The server reads three of its fields in place: nothing is copied, and nothing is
//! decoded. rkyv lays the types out, and checks bytes of strangers before it shows them as one.
//!
//! Nobody can change shared memory, so what was checked stays as it is, whoever has sent it. Without that an
//! archive could change between the check and the read.

use bytes::Bytes;
use notnets::rpc::{Code, Handler, Method, Payload, Request, ServerCall, Status};
use notnets::{Channel, Server, SharedBytes};
use notnets_examples::{Result, two_processes};
use rkyv::rancor::Error;
use rkyv::{Archive, Serialize};

const LOOK: Method = Method::from_static("/sky.Sky/Look");

/// rkyv derives `ArchivedSurvey`, which is what such a survey is as bytes.
#[derive(Archive, Serialize)]
struct Survey {
    telescope: String,
    taken_at: u64,
    pixels: Vec<u8>,
}

/// Answers with three of a survey's fields, and whether the survey was read in shared memory.
struct Sky;

impl Handler for Sky {
    async fn call(&self, call: &mut ServerCall) -> Result<(), Status> {
        let message = call.requests.only_message().await?.into_bytes();
        // Of a message that was copied the beginning may lie anywhere: then this fails, as for any bytes that
        // are no survey.
        let survey = rkyv::access::<ArchivedSurvey, Error>(&message)
            .map_err(|error| Status::new(Code::INVALID_ARGUMENT, error.to_string()))?;
        let pixel = survey.pixels.len() / 2;
        let told = format!(
            "{} at {}: pixel {pixel} of {} is {}; in place: {}",
            survey.telescope,
            survey.taken_at,
            survey.pixels.len(),
            survey.pixels[pixel],
            SharedBytes::holds(&message),
        );
        call.responses.send_last(told.into_bytes()).await
    }
}

async fn server() -> Result {
    Ok(Server::builder().add_rpc_service("sky.Sky", Sky).serve("notnets:///sky").await?)
}

async fn client() -> Result {
    let survey = Survey { telescope: "Rubin".to_owned(), taken_at: 1_764_000_000, pixels: vec![7; 1 << 20] };
    let shared = share(&survey)?;

    let channel = Channel::connect("notnets:///sky").await?;
    for _ in 0..2 {
        println!("{}", look(&channel, Bytes::from(shared.clone())).await?);
    }
    let garbage = SharedBytes::copy_from(&[0xff; 1 << 20])?;
    let refused = look(&channel, Bytes::from(garbage))
        .await
        .is_err_and(|status| status.code() == Code::INVALID_ARGUMENT);
    println!("a mebibyte of 0xff is refused: {refused}");
    Ok(())
}

async fn look(channel: &Channel, survey: impl Into<Payload>) -> Result<String, Status> {
    let reply = channel.unary_call(Request::new(LOOK), survey).await?;
    Ok(String::from_utf8_lossy(&reply.message.into_bytes()).into_owned())
}

/// Lays a survey out in shared memory.
fn share(survey: &Survey) -> Result<SharedBytes> {
    let archived = rkyv::to_bytes::<Error>(survey)?;
    Ok(SharedBytes::copy_from(&archived)?)
}

fn main() -> std::process::ExitCode {
    two_processes(server(), client())
}
