//! What a client of channelz sees of a process that is server and client.

use notnets_channelz::pb::channelz_client::ChannelzClient;
use notnets_channelz::pb::{
    GetChannelRequest, GetServerRequest, GetServerSocketsRequest, GetServersRequest, GetSocketRequest,
    GetSubchannelRequest, GetTopChannelsRequest, Socket,
};
use tonic::Code;

fn option<'a>(socket: &'a Socket, name: &str) -> &'a str {
    let options = &socket.data.as_ref().unwrap().option;
    &options.iter().find(|option| option.name == name).unwrap_or_else(|| panic!("{options:?}")).value
}

#[tokio::test]
async fn links_are_seen_as_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let server = notnets::Server::builder().directory(directory.path());
    let bound = server.add_service(notnets_channelz::service()).bind_blocking("notnets:///seen").unwrap();
    let serving = tokio::spawn(async move { bound.serve().await.unwrap() });
    let endpoint = notnets::Endpoint::from_static("notnets:///seen").directory(directory.path());
    let mut client = ChannelzClient::new(endpoint.connect().await.unwrap());

    // As grpcdebug goes through them.
    let servers = client.get_servers(GetServersRequest::default()).await.unwrap().into_inner();
    assert!(servers.end && servers.server.len() == 1, "{servers:?}");
    let reference = servers.server[0].r#ref.clone().unwrap();
    assert!(reference.server_id > 0 && reference.name == "notnets:///seen", "{reference:?}");
    let unknown = client.get_server(GetServerRequest { server_id: 1 }).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "there is no server 1 here"));
    let request = GetServerRequest { server_id: reference.server_id };
    let server = client.get_server(request).await.unwrap().into_inner().server.unwrap();
    let data = server.data.unwrap();
    // This call is open.
    assert_eq!((data.calls_started, data.calls_succeeded, data.calls_failed), (3, 1, 1));
    assert!(data.trace.unwrap().creation_timestamp.unwrap().seconds > 0);

    let request = GetServerSocketsRequest { server_id: reference.server_id, ..Default::default() };
    let sockets = client.get_server_sockets(request).await.unwrap().into_inner();
    let [socket] = &sockets.socket_ref[..] else { panic!("{sockets:?}") };
    let request = GetSocketRequest { socket_id: socket.socket_id, summary: false };
    let socket = client.get_socket(request).await.unwrap().into_inner().socket.unwrap();
    let data = socket.data.clone().unwrap();
    assert_eq!((data.streams_started, data.streams_succeeded, data.streams_failed), (5, 3, 1));
    // The requests, this one included, and the answers to all but this; one was a status alone.
    assert_eq!((data.messages_sent, data.messages_received), (3, 5));
    assert_eq!((option(&socket, "transport"), option(&socket, "state")), ("memory", "polling"));
    assert!(option(&socket, "bytes_received").parse::<u64>().unwrap() > 0);

    let channels = client.get_top_channels(GetTopChannelsRequest::default()).await.unwrap().into_inner();
    assert!(channels.end);
    let is_ours = |channel: &&notnets_channelz::pb::Channel| {
        channel.data.as_ref().is_some_and(|data| data.target.contains("seen"))
    };
    let channel = channels.channel.iter().find(is_ours).unwrap_or_else(|| panic!("{channels:?}"));
    let request = GetChannelRequest { channel_id: channel.r#ref.as_ref().unwrap().channel_id };
    let channel = client.get_channel(request).await.unwrap().into_inner().channel.unwrap();
    let data = channel.data.unwrap();
    assert_eq!((data.calls_started, data.calls_failed), (7, 1));
    let [subchannel] = &channel.subchannel_ref[..] else { panic!("{:?}", channel.subchannel_ref) };
    let request = GetSubchannelRequest { subchannel_id: subchannel.subchannel_id };
    let subchannel = client.get_subchannel(request).await.unwrap().into_inner().subchannel.unwrap();
    let [socket] = &subchannel.socket_ref[..] else { panic!("{:?}", subchannel.socket_ref) };
    let request = GetSocketRequest { socket_id: socket.socket_id, summary: false };
    let socket = client.get_socket(request).await.unwrap().into_inner().socket.unwrap();
    assert_eq!(socket.data.unwrap().streams_started, 9);

    for (start, max_results) in [(-1, 0), (0, -1)] {
        let request = GetServersRequest { start_server_id: start, max_results };
        assert_eq!(client.get_servers(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    serving.abort();
}
