"""Models asked through a message broker: NATS JetStream, RabbitMQ, Redis streams, Kafka."""
