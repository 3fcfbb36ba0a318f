"""edged: cameras and microphones in, fused events over MQTT out."""

__version__ = "0.1.0"
