//! The cases, by name.

use crate::{Observation, Rpc};

mod backpressure;
mod calls;
mod cancellation;
mod compression;
mod concurrency;
mod deadlines;
mod early;
mod encoding;
mod limits;
mod metadata;
mod middleware;
mod panics;
mod services;
mod statuses;

/// One case of the suite.
pub trait Case: 'static {
    /// The name by which tests and intended differences know it.
    const NAME: &'static str;

    /// Makes the case's calls and says what was seen.
    fn run<C: Rpc>(channel: C) -> impl Future<Output = Observation>;
}

/// Calls a macro with the list of all cases, by module.
#[macro_export]
macro_rules! for_each_case {
    ($callback:ident) => {
        $callback! {
            backpressure { stalled_client, stalled_server }
            calls {
                empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream,
                zero_byte_messages
            }
            cancellation {
                cancel_after_begin, cancel_after_first_response, cancel_stalled_upload, cancel_unary,
                cancel_endless_stream
            }
            compression { gzip_both_ways, zstd_both_ways, compression_not_accepted }
            concurrency { ten_thousand_concurrent_calls, mixed_calls_in_parallel }
            deadlines {
                timeout_on_sleeping_server, deadline_over_upload, deadline_over_stream,
                deadline_reaches_handler
            }
            early { early_status_stops_sender, early_reply_stops_sender, early_end_of_stream }
            encoding { encode_error_on_client, encode_error_on_server }
            limits {
                request_over_limit, reply_over_limit, raised_limit, metadata_near_limit,
                metadata_over_limit
            }
            metadata { custom_metadata, repeated_keys, binary_metadata, request_metadata }
            middleware { client_interceptor, server_interceptor, client_layer, server_layer }
            panics { panic_in_unary, panic_mid_stream }
            services { health_check, health_watch, reflection }
            statuses {
                status_code_and_message, special_status_message, status_details, every_status_code,
                status_after_messages, trailers_only, unimplemented_method, unimplemented_service
            }
        }
    };
}

macro_rules! define {
    ($($module:ident { $($case:ident),* $(,)? })*) => { $($(
        #[doc = concat!("See `cases/", stringify!($module), ".rs`.")]
        #[allow(non_camel_case_types, reason = "a case has the name of its function")]
        pub struct $case;

        impl Case for $case {
            const NAME: &'static str = stringify!($case);

            async fn run<C: Rpc>(channel: C) -> Observation {
                $module::$case(channel).await
            }
        }
    )*)* };
}

for_each_case!(define);
