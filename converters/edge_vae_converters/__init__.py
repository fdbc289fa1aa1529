"""From a trained run to the one file that the device loads, with the figures that say what the conversion cost."""
