//! Every HTTP surface: listeners, error bodies and the routers for each service.
