mod admin;
mod joins;
mod model;
mod offsets;
mod reloads;
mod sim;
mod statics;
mod syncs;
