//! System tests against real servers.
