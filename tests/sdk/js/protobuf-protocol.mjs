// The protobuf subprotocols for the released client SDK: its own protobuf plug-in cannot be had here, so this is one
// over protobufjs, with the schema of client-protocols §3.9 in our layout. It shares nothing with the server.

import protobuf from "protobufjs";

const SCHEMA = `
syntax = "proto3";

message Upstream {
  oneof message {
    SendToGroup send_to_group = 1;
    Event event = 5;
    OfGroup join_group = 6;
    OfGroup leave_group = 7;
    SequenceAck sequence_ack = 8;
    Empty ping = 9;
    Invoke invoke = 10;
    CancelInvocation cancel_invocation = 11;
    StreamData stream_data = 13;
    StreamEnd stream_end = 14;
    SetGroupState set_group_state = 15;
    OfGroup subscribe_group_state = 16;
    OfGroup unsubscribe_group_state = 17;
  }
}
message SendToGroup {
  string group = 1;
  optional uint64 ack_id = 2;
  MessageData data = 3;
  optional bool no_echo = 4;
  optional uint32 ttl_seconds = 5;
  map<string, string> metadata = 6;
  StreamStart stream = 7;
}
message Event {
  string event = 1;
  MessageData data = 2;
  optional uint64 ack_id = 3;
  map<string, string> metadata = 4;
  StreamStart stream = 5;
}
message OfGroup { string group = 1; optional uint64 ack_id = 2; }
message SequenceAck { uint64 sequence_id = 1; }
message Empty {}
message Invoke {
  string event = 1;
  string invocation_id = 2;
  MessageData data = 3;
  map<string, string> metadata = 4;
  StreamStart stream = 5;
}
message CancelInvocation { string invocation_id = 1; }
message StreamStart { string stream_id = 1; optional uint32 idle_timeout_ms = 2; }
message StreamData { string stream_id = 1; optional uint64 stream_sequence_id = 2; MessageData data = 3; }
message StreamEnd { string stream_id = 1; UserError error = 2; }
message UserError { optional string message = 1; optional string user_error_code = 2; }
message SetGroupState { string group = 1; optional uint64 ack_id = 2; GroupState state = 3; }
message GroupState { map<string, string> entries = 1; }

message Downstream {
  oneof message {
    Ack ack = 1;
    Data data = 2;
    System system = 3;
    Empty pong = 4;
    InvokeResponse invoke_response = 5;
    StreamClosed stream_closed = 8;
  }
}
message Ack { uint64 ack_id = 1; bool success = 2; Error error = 3; }
message Error { string name = 1; string message = 2; }
message Data {
  string from = 1;
  optional string group = 2;
  MessageData data = 3;
  optional uint64 sequence_id = 4;
  map<string, string> metadata = 5;
}
message System { oneof message { Connected connected = 1; Disconnected disconnected = 2; } }
message Connected { string connection_id = 1; string user_id = 2; optional string reconnection_token = 3; }
message Disconnected { string reason = 2; }
message InvokeResponse { string invocation_id = 1; bool success = 2; MessageData data = 3; Error error = 4; }
message StreamClosed { string stream_id = 1; Error error = 2; }

message MessageData {
  oneof data {
    string text_data = 1;
    bytes binary_data = 2;
    Any protobuf_data = 3;
    string json_data = 4;
  }
}
message Any { string type_url = 1; bytes value = 2; }
`;

const { root } = protobuf.parse(SCHEMA, { keepCase: true });
const [Upstream, Downstream, Any] = ["Upstream", "Downstream", "Any"].map((name) => root.lookupType(name));

// The bytes of an Any, as the SDK's data type "protobuf" wants them.
export function anyOf(type_url, value) {
  return buffer(Any.encode({ type_url, value: Uint8Array.from(value) }).finish());
}

// A protocol object for the SDK's client. Its `extra` goes into every sendToGroup: the SDK cannot set metadata.
export function WebPubSubProtobufProtocol({ reliable, extra = {} }) {
  const version = reliable ? "protobuf.reliable.webpubsub.azure.v1" : "protobuf.webpubsub.azure.v1";
  return {
    name: version,
    isReliableSubProtocol: reliable,
    writeMessage: (message) => buffer(Upstream.encode(Upstream.fromObject(upstream(message, extra))).finish()),
    parseMessages,
  };
}

function upstream(message, extra) {
  const { kind, group, ackId: ack_id, streamId: stream_id } = message;
  const data = message.data === undefined ? undefined : payload(message.data, message.dataType);
  switch (kind) {
    case "joinGroup":
      return { join_group: { group, ack_id } };
    case "leaveGroup":
      return { leave_group: { group, ack_id } };
    case "sendToGroup": {
      const stream = message.stream && {
        stream_id: message.stream.streamId,
        idle_timeout_ms: message.stream.idleTimeoutInMs,
      };
      return { send_to_group: { group, ack_id, data, no_echo: message.noEcho, stream, ...extra } };
    }
    case "sendEvent":
      return { event: { event: message.event, data, ack_id } };
    case "sequenceAck":
      return { sequence_ack: { sequence_id: message.sequenceId } };
    case "ping":
      return { ping: {} };
    case "invoke":
      return { invoke: { event: message.event, invocation_id: message.invocationId, data } };
    case "cancelInvocation":
      return { cancel_invocation: { invocation_id: message.invocationId } };
    case "streamData":
      return { stream_data: { stream_id, stream_sequence_id: message.streamSequenceId, data } };
    case "streamEnd":
      return { stream_end: { stream_id } };
    case "setGroupState":
      return { set_group_state: { group, ack_id, state: message.state && { entries: message.state } } };
    case "subscribeGroupState":
      return { subscribe_group_state: { group, ack_id } };
    case "unsubscribeGroupState":
      return { unsubscribe_group_state: { group, ack_id } };
    default:
      throw new Error(`no protobuf for ${kind}`);
  }
}

function payload(data, dataType) {
  switch (dataType) {
    case "text":
      return { text_data: data };
    case "json":
      return { json_data: JSON.stringify(data) };
    case "binary":
      return { binary_data: new Uint8Array(data) };
    case "protobuf":
      return { protobuf_data: Any.decode(new Uint8Array(data)) };
    default:
      throw new Error(`no such data type: ${dataType}`);
  }
}

function parseMessages(input) {
  if (!(input instanceof ArrayBuffer)) throw new Error("protobuf comes in binary frames");
  // Fields that are not on the wire are not there; `message` and `data` name the member that is set.
  const read = Downstream.toObject(Downstream.decode(new Uint8Array(input)), { oneofs: true, longs: Number });
  switch (read.message) {
    case "ack": {
      const { ack_id = 0, success = false, error } = read.ack;
      return { kind: "ack", ackId: ack_id, success, error };
    }
    case "data": {
      const { from, group, sequence_id: sequenceId, metadata } = read.data;
      const kind = { group: "groupData", server: "serverData" }[from];
      if (kind === undefined) throw new Error(`nobody is from ${from}`);
      return { kind, group, sequenceId, metadata, ...content(read.data.data) };
    }
    case "system": {
      if (read.system.message === "disconnected") {
        return { kind: "disconnected", message: read.system.disconnected.reason };
      }
      const { connection_id, user_id, reconnection_token } = read.system.connected;
      return {
        kind: "connected",
        connectionId: connection_id,
        userId: user_id,
        reconnectionToken: reconnection_token,
      };
    }
    case "pong":
      return { kind: "pong" };
    case "invoke_response": {
      const { invocation_id, success = false, error, data } = read.invoke_response;
      return { kind: "invokeResponse", invocationId: invocation_id, success, error, ...(data && content(data)) };
    }
    case "stream_closed":
      return { kind: "streamClosed", streamId: read.stream_closed.stream_id, error: read.stream_closed.error };
    default:
      throw new Error("a message with no member that this schema knows");
  }
}

function content(data) {
  switch (data.data) {
    case "text_data":
      return { dataType: "text", data: data.text_data };
    case "json_data":
      return { dataType: "json", data: JSON.parse(data.json_data) };
    case "binary_data":
      return { dataType: "binary", data: buffer(data.binary_data) };
    case "protobuf_data":
      return { dataType: "protobuf", data: buffer(Any.encode(data.protobuf_data).finish()) };
    default:
      throw new Error("a payload that is not set");
  }
}

// An ArrayBuffer of exactly these bytes.
function buffer(bytes) {
  return Uint8Array.from(bytes).buffer;
}
