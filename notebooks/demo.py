# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How likely, and how good is it?
#
# July 2018 was hot in Britain and Ireland. This notebook makes ensemble forecasts of that month
# from a model that has seen 35 days of June and July, and asks what they are worth.
#
# It needs nothing but the package: the data come with it. If `scripts/demo` has been run, its
# results are used; if not, they are made here, which takes some minutes.

# %% tags=["parameters"]
config_path = "../configs/demo.yaml"
rung = "flow_matching"  # or variational, noise_prediction, v_prediction, edm, flow_matching_ot
overrides = ["output=../runs/demo" + f"_{rung}" * (rung != "flow_matching")]

# %%
# %matplotlib inline
import logging

import numpy as np
import xarray as xr

import weatherdiff
from weatherdiff import workflow
from weatherdiff.evaluation import open_scores, scorecard_table

logging.getLogger("weatherdiff").setLevel(logging.ERROR)
if rung != "flow_matching":  # each rung brings its own sampler
    overrides = [
        f"objective.rung={rung}",
        "forecast.sampler=null",
        "forecast.steps=null",
        *overrides,
    ]
config = weatherdiff.load_config(config_path, overrides)
print(workflow.check(config))

# %% [markdown]
# ## The data
#
# `open_fields` gives any source the same names, order and units, lazily. Sea cells have no data.

# %%
analysis = workflow.open_source(config)
analysis

# %% [markdown]
# ## From data to ensembles
#
# `run` prepares, trains, forecasts, evaluates and reports; what is there already is kept. The
# method is flow matching: a network learns the velocity that carries noise to the next 24 hours of
# weather, given the last frames. Each start from other noise ends in another possible weather.
# With another `rung` in the first cell, the same network is trained by another method, from the
# variational bound on, in a folder of its own.

# %%
table = workflow.run(config)

# %%
print(table)

# %% [markdown]
# Lower CRPS is better; a skill of 0.5 halves the reference's. A spread-skill ratio of 1 means that
# the ensemble is as uncertain as it should be; below 1 it is too sure of itself.

# %%
scores = open_scores(config.scores)
weatherdiff.plotting.plot_scores(scores, variable="2m_temperature")

# %% [markdown]
# ## One forecast

# %%
forecasts = weatherdiff.open_forecasts(config.forecasts)
case = forecasts.isel(init_time=forecasts.sizes["init_time"] // 2)
weatherdiff.plotting.plot_forecast_maps(case, analysis, variable="2m_temperature")

# %%
weatherdiff.plotting.plot_plume(
    case, analysis, variable="2m_temperature", latitude=51.75, longitude=-0.25
)

# %% [markdown]
# ## How likely is it warmer than 25 °C tomorrow afternoon?
#
# The fraction of members that say so.

# %%
temperature = case["2m_temperature"]
warm = (temperature > 298.15).mean("number").where(temperature.notnull().all("number"))
probability = warm.max("lead_time")
print(f"highest probability anywhere: {float(probability.max()):.0%}")

# %% [markdown]
# ## Are the probabilities honest?
#
# If they are, the truth falls in each gap between ordered members equally often: a flat histogram.
# And of the times when they said 70%, it was warm in 70%: a reliability diagram on its diagonal.

# %%
weatherdiff.plotting.plot_rank_histogram(scores, variable="2m_temperature")

# %%
weatherdiff.plotting.plot_reliability(scores, variable="2m_temperature", event="above_p90")

# %% [markdown]
# ## Is it better than what there was, and is the difference real?
#
# Forecasts from neighbouring hours fail together, so a plain t-test would find differences where
# there are none. `compare` allows for that, and for the number of comparisons. It needs no
# forecast, only the sums that the scores keep; so do scores by hour of the day, or by another
# estimator.

# %%
for reference in scores.attrs["references"]:
    print(scorecard_table(weatherdiff.compare(scores, reference)), end="\n\n")

# %%
weatherdiff.plotting.plot_score_maps(scores, variable="2m_temperature")

# %% [markdown]
# ## The model is a folder
#
# Load it where you like, give it the last frames, and ask for as many members as you need. The same
# seed gives the same member, however many are asked for.

# %%
forecaster = weatherdiff.Forecaster.load(config.model_folder)
init_time = np.datetime64(case["init_time"].values)
few = forecaster.forecast(analysis, init_time=init_time, lead_time="24h", members=3, seed=7)
more = forecaster.forecast(analysis, init_time=init_time, lead_time="24h", members=5, seed=7)
xr.testing.assert_identical(few, more.isel(number=slice(0, 3)))
few
