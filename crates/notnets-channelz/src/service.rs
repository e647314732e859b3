//! The service.

use tonic::{Request, Response, Status};

use crate::entities::Entities;
use crate::pages::page;
use crate::pb::channelz_server::{Channelz as Service, ChannelzServer};
use crate::pb::{
    GetChannelRequest, GetChannelResponse, GetServerRequest, GetServerResponse, GetServerSocketsRequest,
    GetServerSocketsResponse, GetServersRequest, GetServersResponse, GetSocketRequest, GetSocketResponse,
    GetSubchannelRequest, GetSubchannelResponse, GetTopChannelsRequest, GetTopChannelsResponse,
};

/// The service, to be added to a server.
///
/// ```
/// let server = notnets::Server::builder().add_service(notnets_channelz::service());
/// # drop(server);
/// ```
pub fn service() -> ChannelzServer<Channelz> {
    ChannelzServer::new(Channelz)
}

/// Answers from the counters of this process.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Channelz;

#[tonic::async_trait]
impl Service for Channelz {
    async fn get_top_channels(
        &self,
        request: Request<GetTopChannelsRequest>,
    ) -> Result<Response<GetTopChannelsResponse>, Status> {
        let GetTopChannelsRequest { start_channel_id, max_results } = request.into_inner();
        let (channel, end) = page(Entities::look().channels(), start_channel_id, max_results)?;
        Ok(Response::new(GetTopChannelsResponse { channel, end }))
    }

    async fn get_servers(
        &self,
        request: Request<GetServersRequest>,
    ) -> Result<Response<GetServersResponse>, Status> {
        let GetServersRequest { start_server_id, max_results } = request.into_inner();
        let (server, end) = page(Entities::look().servers(), start_server_id, max_results)?;
        Ok(Response::new(GetServersResponse { server, end }))
    }

    async fn get_server(
        &self,
        request: Request<GetServerRequest>,
    ) -> Result<Response<GetServerResponse>, Status> {
        let wanted = request.into_inner().server_id;
        let server = Entities::look().servers().into_iter().find(|(id, _)| *id == wanted);
        let (_, server) = server.ok_or_else(|| not_found("server", wanted))?;
        Ok(Response::new(GetServerResponse { server: Some(server) }))
    }

    async fn get_server_sockets(
        &self,
        request: Request<GetServerSocketsRequest>,
    ) -> Result<Response<GetServerSocketsResponse>, Status> {
        let GetServerSocketsRequest { server_id, start_socket_id, max_results } = request.into_inner();
        let sockets = Entities::look().server_sockets(server_id);
        let sockets = sockets.ok_or_else(|| not_found("server", server_id))?;
        let (socket_ref, end) = page(sockets, start_socket_id, max_results)?;
        Ok(Response::new(GetServerSocketsResponse { socket_ref, end }))
    }

    async fn get_channel(
        &self,
        request: Request<GetChannelRequest>,
    ) -> Result<Response<GetChannelResponse>, Status> {
        let wanted = request.into_inner().channel_id;
        let channel = Entities::look().channels().into_iter().find(|(id, _)| *id == wanted);
        let (_, channel) = channel.ok_or_else(|| not_found("channel", wanted))?;
        Ok(Response::new(GetChannelResponse { channel: Some(channel) }))
    }

    async fn get_subchannel(
        &self,
        request: Request<GetSubchannelRequest>,
    ) -> Result<Response<GetSubchannelResponse>, Status> {
        let wanted = request.into_inner().subchannel_id;
        let subchannel =
            Entities::look().subchannel(wanted).ok_or_else(|| not_found("subchannel", wanted))?;
        Ok(Response::new(GetSubchannelResponse { subchannel: Some(subchannel) }))
    }

    async fn get_socket(
        &self,
        request: Request<GetSocketRequest>,
    ) -> Result<Response<GetSocketResponse>, Status> {
        let wanted = request.into_inner().socket_id;
        let socket = Entities::look().socket(wanted).ok_or_else(|| not_found("socket", wanted))?;
        Ok(Response::new(GetSocketResponse { socket: Some(socket) }))
    }
}

fn not_found(what: &str, id: i64) -> Status {
    Status::not_found(format!("there is no {what} {id} here"))
}
