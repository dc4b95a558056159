from biped.config.robot import RobotConfig
from biped.eval.bench import Evaluation
from biped.eval.gate import GATE, judge
from biped.eval.trials import count_trials
from biped.mdp.episode_stats import CAUSES, STRAYED, EpisodeSummary
from biped.mdp.rewards import TERMS
from biped.train.metrics import ALL_METRICS, GATE_FIGURES, METRICS, TERMINATION_CAUSES, as_markdown, summary_metrics
from tests.conftest import ROOT
from tests.eval.walks import walk

ASKED_OF_WANDB = {
    "ppo/policy_loss",
    "ppo/value_loss",
    "ppo/entropy",
    "ppo/kl_divergence",
    "episode/mean_return",
    "episode/max_return",
    "episode/mean_length",
    "episode/count",
    "episode/mean_reward_per_step",
    "performance/fps",
    "performance/collection_time",
    "performance/learning_time",
    "performance/total_timesteps",
    "info/last_lr",
    "info/clip_frac",
    "info/action_noise_std",
    "eval/<exp_name>/success_rate",
    "eval/<exp_name>/success_precision",
    "eval/<exp_name>/num_trials",
    "eval/<exp_name>/success_trials",
    "eval/<exp_name>/fail_trials",
    *(f"rewards/{name}" for name in TERMS),
}


def test_wandb_has_the_names_that_the_documents_ask_for() -> None:
    assert {metric.wandb_name for metric in METRICS.values()} >= ASKED_OF_WANDB


def test_no_two_metrics_share_a_name_in_any_sink() -> None:
    for names in ([metric.name for metric in ALL_METRICS], [metric.wandb_name for metric in ALL_METRICS]):
        assert len(set(names)) == len(names)


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == as_markdown()


def test_the_table_knows_the_causes_that_are_counted() -> None:
    assert (*CAUSES, STRAYED) == TERMINATION_CAUSES


def test_every_metric_has_a_unit_and_a_meaning() -> None:
    assert all(metric.unit and metric.meaning for metric in METRICS.values())


def test_the_environments_summary_goes_by_names_of_the_table() -> None:
    causes = dict.fromkeys(TERMINATION_CAUSES, 0.0)
    summary = EpisodeSummary(1, 1.0, 1.0, 1.0, dict.fromkeys(TERMS, 0.0), 0.0, 0.0, 0, causes)
    assert set(summary_metrics(summary)) <= set(METRICS)
    assert {
        name
        for name in METRICS
        if name.startswith(("rewards/", "terminations/", "episode/", "env/", "curriculum/progress"))
    } == set(summary_metrics(summary))


def test_the_table_has_the_gates_figures_with_their_units() -> None:
    assert {name: unit for name, (unit, _) in GATE_FIGURES.items()} == {line.name: line.unit for line in GATE}


def test_an_evaluation_goes_by_names_of_the_table() -> None:
    record = walk()
    assert set(Evaluation(judge(record, RobotConfig()), count_trials(record)).metrics()) <= set(METRICS)
