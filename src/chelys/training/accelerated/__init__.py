"""Training on one accelerator within some minutes; `chelys.training.accelerated.nano` is the way in."""
