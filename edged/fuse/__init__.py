"""From observations to events; without threads, sockets or waiting."""
