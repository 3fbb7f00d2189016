"""ParameterChanges: check parameters about to be set, then apply all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rclpy.node import Node

from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.detector.configured import Configured
from yolov7_trt_ros.nodes.detector.model_update import ModelUpdates
from yolov7_trt_ros.nodes.detector.more_engines import MoreEngines
from yolov7_trt_ros.nodes.detector_parameters.parameters import (
    check_changes,
    PARAMETERS,
    REBUILD,
    TOPIC_PARAMETERS,
)
from yolov7_trt_ros.nodes.detector_parameters.settings import (
    detector_options,
    node_settings,
    NodeSettings,
    TopicValues,
    update_limits,
)
from yolov7_trt_ros.nodes.detector_parameters.topic import changed_values, warn_of_idle_topics
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders
from yolov7_trt_ros.nodes.images.topic_plan import WantedTopics
from yolov7_trt_ros.nodes.parameter_spec import held_parameters
from yolov7_trt_ros.nodes.topic_names import resolve_names


class ParameterChanges:
    """
    Applies changed parameters of the detector node.

    Parameters
    ----------
    node
        The detector node.
    updates, more, trusted
        Parts of the node that some parameters belong to.

    """

    def __init__(
        self, node: Node, updates: ModelUpdates, more: MoreEngines, trusted: TrustedFolders
    ) -> None:
        self._node, self._updates, self._more, self._trusted = node, updates, more, trusted

    def apply(
        self, changes: Mapping[str, Any], configured: Configured | None, *, active: bool
    ) -> None:
        """
        Apply parameters that are about to be set.

        Parameters
        ----------
        changes
            Their names and values.
        configured
            None for a node that is not; its parameters are read at configure.
        active
            Whether the node is active.

        Raises
        ------
        SettingError
            One is refused; nothing was applied.

        """
        before = held_parameters(self._node, PARAMETERS)
        checked = check_changes(
            changes, before, configured=configured is not None,
            updatable=self._updates.may_become(changes.get('model'), active),
        )
        self._trusted.check({
            name: value for name, value in checked.items() if value != before[name]
            and not (name == 'model' and self._updates.is_open(value))
        })
        values = before | checked
        if 'engines' in checked:
            self._more.check(values, self._trusted)
        of_topics = changed_values(self._node, changes, values['image_topics'])
        names = [spec.name for spec in TOPIC_PARAMETERS if spec.name in checked]
        if configured is None:
            for name in names:
                resolve_names(self._node, name, values[name])
            return
        updates = values['model'] != before['model']
        if updates:
            self._updates.check(values['model'], update_limits(values))
        zones = any(name.endswith('_zones') for name in changes)
        settings = _check_settings(configured, values, of_topics, zones=zones)
        topics = _check_topics(configured, values) if names else None
        if updates:
            self._update_model(values, of_topics)
        if topics is not None:
            configured.streams.set_topics(topics)
        if settings is not None:
            configured.replace_settings(settings)
            self._updates.limit(update_limits(values))
        if topics is not None:
            warn_of_idle_topics(self._node, of_topics, values['image_topics'])

    def _update_model(self, values: dict[str, Any], of_topics: TopicValues) -> None:
        """Begin to replace the model that serves."""
        self._updates.ask(
            values['model'], self._options(values), update_limits(values),
            may_build=values['on_plan_mismatch'] == REBUILD,
            fits=partial(node_settings, values, topics=of_topics),
        )

    def _options(self, values: dict[str, Any]) -> DetectorOptions | None:
        """Return what to open the model with, None if that is not allowed, as of an open one."""
        serving = {'model': self._updates.serving}
        try:
            base = (serving | self._trusted.files_to_open(serving))['model']
        except SettingError:  # its file, or a link on the way, is another one by now
            base = ''
        try:
            files = self._trusted.files_to_open(values)
        except SettingError:
            if not self._updates.is_open(values['model']):
                raise
            return None
        return detector_options(values | files | {'refit_from': base})


def _check_settings(
    configured: Configured, values: Mapping[str, Any], of_topics: TopicValues, *, zones: bool
) -> NodeSettings | None:
    """Return the new settings; None before the model is open, which needs the values then."""
    if configured.model is None:
        return None
    names = configured.model.detector.spec.class_names
    settings = node_settings(values, names, of_topics)
    if zones:
        configured.streams.check_zones(lambda topic: settings.of(topic).zones)
    return settings


def _check_topics(configured: Configured, values: Mapping[str, Any]) -> WantedTopics:
    return configured.streams.check(values['image_topics'], values['detections_topics'])
