//! Moving over from tonic's transport: the same program before and after, and their difference.
//!
//! The services, the stubs and the builder's calls stay. What changes is what `use` brings in, and
//! the address.

mod after;
mod before;

use notnets_examples::{Result, in_own_directory};

async fn both() -> Result {
    println!("before: {}", before::greet().await?);
    println!("after: {}", after::greet().await?);
    let (before, after) = (include_str!("before.rs"), include_str!("after.rs"));
    only_in_first(before, after).for_each(|line| println!("- {line}"));
    only_in_first(after, before).for_each(|line| println!("+ {line}"));
    Ok(())
}

fn only_in_first<'a>(first: &'a str, second: &'a str) -> impl Iterator<Item = &'a str> {
    let is_new = move |line: &&str| !line.starts_with("//!") && second.lines().all(|other| other != *line);
    first.lines().filter(is_new).map(str::trim)
}

fn main() -> std::process::ExitCode {
    in_own_directory(both())
}
