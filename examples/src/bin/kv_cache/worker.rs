//! A client as a process: it reads numbers of prompts, one a line, and says when it is done with each. At the
//! end it says what it has measured.

use clap::ValueEnum;
use notnets_examples::Result;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::Prompts;
use crate::client::Client;
use crate::prompt::prompt;
use crate::report::Report;
use crate::transport::{Channel, in_pod, over_tcp, say};

/// What a client does with prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Compute the blocks that are not there
    Prefill,
    /// Get all blocks
    Decode,
}

pub async fn work(address: &str, role: Role, prompts: Prompts) -> Result {
    let block = prompts.block as usize * 1024;
    let report = if address.starts_with("notnets:") {
        follow(Client::new(in_pod(address).await?, block, true), role, prompts).await?
    } else {
        follow(Client::new(over_tcp(address).await?, block, false), role, prompts).await?
    };
    say(&serde_json::to_string(&report)?)
}

async fn follow<T: Channel>(mut client: Client<T>, role: Role, prompts: Prompts) -> Result<Report> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let prompt = prompt(prompts.stream, line.trim().parse()?, prompts.documents);
        match role {
            Role::Prefill => client.prefill(&prompt).await?,
            Role::Decode => client.decode(&prompt).await?,
        }
        say(&line)?;
    }
    Ok(client.report)
}
