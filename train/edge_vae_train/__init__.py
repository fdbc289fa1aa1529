"""The workstation: data, models, loss, fitting, calibration, evaluation, simulation."""
