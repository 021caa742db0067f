mod edges;
mod model;
mod sim;
