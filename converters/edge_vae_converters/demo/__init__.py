"""The whole way on one machine: data, training, int8, a real broker, the real agent, and a subscriber like SCADA."""
