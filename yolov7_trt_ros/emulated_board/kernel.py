"""
The kernel and hardware of an emulated board: as time passes, clocks, power and heat follow.

`settle` processes written files as a kernel does; `step` lets time pass and shows the result. Both
hold the board's lock, so any process may call them.

"""

from __future__ import annotations

from pathlib import Path

from yolov7_trt_ros.emulated_board import clocks, physics
from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition, ZoneDefinition
from yolov7_trt_ros.emulated_board.conf_board import board_of
from yolov7_trt_ros.emulated_board.state import BoardState, changing_state
from yolov7_trt_ros.emulated_board.tree import (
    activity_file,
    chip_folder,
    cooling_folder,
    CPU_FOLDER,
    FAN_CURVES,
    fan_folder,
    fan_profile,
    gate,
    limit_files,
    over_current_folder,
    policy_folder,
    ranges,
    read_number,
    read_text,
    RPM_PER_PWM,
    tachometer_folder,
    write_value,
    zone_folder,
)

STEP_S = 0.2
THROTTLE_HOLD_S = 1.0
THROTTLE_HYSTERESIS_C = 2.0
OVER_CURRENT_HOLD_S = 1.0
OVER_CURRENT_CAP = 0.5
JIFFIES_PER_S = 100
FREE_BLOCKS = 'Node 0, zone   Normal   903 411 208 90 41 20 12 6 3 1 105'


def settle(root: Path) -> None:
    """Round and limit the values written to the board's files, and show the clocks."""
    step(root, 0.0)


def step(root: Path, seconds: float) -> None:
    """Let time pass on the board and show clocks, power, temperatures and alarms after it."""
    with changing_state(root) as state:
        _Kernel(root, board_of(root, state), state).run(seconds)


class _Kernel:
    """One run of the kernel; the caller holds the lock."""

    def __init__(self, root: Path, board: BoardDefinition, state: BoardState) -> None:
        self._root = root
        self._board = board
        self._state = state
        self._parts = physics.PartPowers(0.0, 0.0, 0.0, 0.0)
        self._temperatures: dict[str, float] = {}
        self._limits_ma: dict[str, tuple[int, int]] = {}

    def run(self, seconds: float) -> None:
        """Settle, let time pass, show."""
        clocks.settle_clocks(self._root, self._board, self._state)
        self._gpu_is_off = clocks.is_gpu_off(self._root, self._board, self._state)
        self._limits_ma = self._read_limits()
        self._cores = clocks.online_cores(self._root, self._board)
        left = seconds
        while True:
            elapsed = min(STEP_S, left)
            self._advance(elapsed)
            left -= elapsed
            if left <= 1e-9:
                break
        self._show(seconds)

    def _advance(self, elapsed_s: float) -> None:
        """Move power, temperatures and throttling by at most `STEP_S`."""
        state, board = self._state, self._board
        self._pick_clocks()
        self._parts = physics.part_powers(board, self._activity())
        momentary = physics.rail_powers(board, self._parts)
        for rail, target in momentary.items():
            old = state['rails_mw'].get(rail, target)
            state['rails_mw'][rail] = physics.approach(
                old, target, elapsed_s, physics.AVERAGING_S)
        target_c = physics.sink_target_c(
            board.thermal, state['ambient_c'], physics.total_power(board, momentary),
            self._fan_pwm() / 255)
        state['sink_c'] = physics.approach(
            state['sink_c'], target_c, elapsed_s, board.thermal.time_constant_s)
        self._temperatures = physics.zone_temperatures(
            board.thermal, state['sink_c'], self._parts)
        state['time_s'] += elapsed_s
        self._throttle()
        self._watch_current()

    def _pick_clocks(self) -> None:
        cap = physics.THROTTLE_CAPS[self._state['throttle_level']]
        if self._state['time_s'] < self._state['over_current_until_s']:
            cap = min(cap, OVER_CURRENT_CAP)
        self._cpu_khz = {
            leader: clocks.cpu_frequency_khz(self._state, self._board, leader, cap)
            for leader in self._board.cpu.leaders}
        self._gpu_hz = [clocks.gpu_frequency_hz(self._state, self._board, index, cap)
                        for index in range(len(self._board.gpu.clocks))]
        if self._gpu_is_off and self._board.gpu.gated == 'all':
            self._gpu_hz[0] = 0
        self._emc_hz = clocks.emc_frequency_hz(self._root, self._board, self._state)

    def _activity(self) -> physics.Activity:
        board, state = self._board, self._state
        return physics.Activity(
            self._gpu_hz[0] / board.gpu.clocks[0].table_hz[-1],
            max(self._cpu_khz.values()) / board.cpu.table_khz[-1],
            self._emc_hz / board.emc.table_hz[-1],
            state['gpu_load'], state['cpu_load'], state['emc_load'],
            len(self._cores) / board.cpu.core_count,
            0.0 if self._gpu_is_off else physics.tpcs_share(
                board, read_number(self._root, f'{board.gpu.device}/tpc_pg_mask')))

    def _fan_pwm(self) -> int:
        """Return the PWM, 0 to 255: the written value, or that of the profile's curve."""
        root, folder = self._root, fan_folder(self._board)
        if self._board.fan == 'pwm-fan':
            if not read_number(root, f'{folder}/temp_control', 1):
                return read_number(root, f'{folder}/target_pwm')
            profile = read_text(root, f'{folder}/fan_profile') or 'quiet'
        elif (root / 'run/emulated_board/nvfancontrol_stopped').exists():
            return read_number(root, f'{folder}/pwm1')
        else:
            profile = fan_profile(read_text(root, 'var/lib/nvfancontrol/status'))
        curve = FAN_CURVES.get(profile, FAN_CURVES['quiet'])
        return physics.on_curve(curve, self._state['sink_c'])

    def _throttle(self) -> None:
        """Move the throttle level by one step at a time, with hysteresis and a hold."""
        state, limit = self._state, self._board.thermal.throttle_c
        if state['time_s'] < state['throttle_until_s']:
            return
        hottest = physics.hottest_c(self._board.thermal, self._temperatures)
        level = state['throttle_level']
        if hottest >= limit:
            level = min(level + 1, len(physics.THROTTLE_CAPS) - 1)
        elif hottest < limit - THROTTLE_HYSTERESIS_C:
            level = max(level - 1, 0)
        if level != state['throttle_level']:
            state['throttle_level'] = level
            state['throttle_until_s'] = state['time_s'] + THROTTLE_HOLD_S

    def _read_limits(self) -> dict[str, tuple[int, int]]:
        """Return warning and critical current of each rail from the files, in mA."""
        limits = {}
        for chip in self._board.chips:
            folder = chip_folder(self._board, chip)
            for number, rail in enumerate(chip.channels):
                warn, crit = limit_files(chip.driver, number)
                if warn:
                    limits[rail] = (read_number(self._root, f'{folder}/{warn}', 32760),
                                    read_number(self._root, f'{folder}/{crit}', 32760))
        return limits

    def _current_ma(self, rail: str) -> float:
        voltage = next(item.voltage_mv for item in self._board.rails if item.name == rail)
        return self._state['rails_mw'][rail] * 1000 / voltage

    def _watch_current(self) -> None:
        """Count an over-current event and slow down while a rail is above its critical limit."""
        state = self._state
        over = any(self._current_ma(rail) > crit
                   for rail, (_, crit) in self._limits_ma.items() if rail != 'NC')
        if not over:
            return
        if state['time_s'] >= state['over_current_until_s']:
            state['over_current_events'] += 1
        state['over_current_until_s'] = state['time_s'] + OVER_CURRENT_HOLD_S

    def _show(self, seconds: float) -> None:
        self._show_clocks()
        self._show_rails()
        self._show_heat()
        self._show_loads(seconds)

    def _put(self, path: str, value: object) -> None:
        """Write a value unless it was the last one written there."""
        text = str(value)
        if self._state['shown'].get(path) != text:
            self._state['shown'][path] = text
            write_value(self._root, path, text)

    def _show_clocks(self) -> None:
        for leader, khz in self._cpu_khz.items():
            self._put(f'{policy_folder(leader)}/scaling_cur_freq', khz)
        for clock, hertz in zip(self._board.gpu.clocks, self._gpu_hz, strict=True):
            self._put(f'{clock.folder}/cur_freq', hertz)
        rate_file = clocks.emc_rate_file(self._board)
        if read_number(self._root, rate_file) != self._emc_hz:  # jetson_clocks writes it too
            write_value(self._root, rate_file, self._emc_hz)
        self._put(f'{CPU_FOLDER}/online', ranges(self._cores))
        offline = set(range(self._board.cpu.core_count)) - set(self._cores)
        self._put(f'{CPU_FOLDER}/offline', ranges(sorted(offline)))

    def _show_rails(self) -> None:
        for chip in self._board.chips:
            folder = chip_folder(self._board, chip)
            for number, name in enumerate(chip.channels):
                for file, value in self._readings(chip.driver, number, name).items():
                    self._put(f'{folder}/{file}', value)
        counters = over_current_folder(self._board)
        if counters is not None:
            self._put(f'{counters}/oc1_event_cnt', self._state['over_current_events'])

    def _readings(self, driver: str, number: int, name: str) -> dict[str, int]:
        """Return the files of one channel with their values."""
        rail = self._board.rail(name)
        milliamp, millivolt = 0, 0
        if rail is not None:
            millivolt = rail.voltage_mv
            milliamp = physics.measured_ma(
                rail, self._state['rails_mw'][name], driver, self._state['time_s'])
        milliwatt = milliamp * millivolt / 1000
        if driver == 'ina3221x':
            return {f'in_power{number}_input': round(milliwatt),
                    f'in_current{number}_input': milliamp,
                    f'in_voltage{number}_input': millivolt}
        if driver == 'ina238':
            return {'power1_input': round(milliwatt * 1000), 'curr1_input': milliamp,
                    'in1_input': millivolt}
        warn, crit = self._limits_ma.get(name, (32760, 32760))
        channel = number + 1
        return {f'in{channel}_input': millivolt, f'curr{channel}_input': milliamp,
                f'curr{channel}_max_alarm': int(milliamp > warn),
                f'curr{channel}_crit_alarm': int(milliamp > crit)}

    def _show_heat(self) -> None:
        for number, zone in enumerate(self._board.thermal.zones):
            if zone.of_gpu and self._board.gpu.gated == 'all':
                self._gate(f'{zone_folder(number)}/temp', self._gpu_is_off)
            if zone.zone_type in self._temperatures and not self._is_gated(zone):
                celsius = self._temperatures[zone.zone_type]
                self._put(f'{zone_folder(number)}/temp', round(celsius * 1000))
        for number in (0, 1):
            self._put(f'{cooling_folder(number)}/cur_state', self._state['throttle_level'])
        folder = fan_folder(self._board)
        if self._board.fan == 'pwm-fan':
            self._put(f'{folder}/cur_pwm', self._fan_pwm())
        elif not (self._root / 'run/emulated_board/nvfancontrol_stopped').exists():
            write_value(self._root, f'{folder}/pwm1', self._fan_pwm())
        tachometer = tachometer_folder(self._board)
        if tachometer is not None:
            self._put(f'{tachometer}/rpm', read_number(self._root, f'{folder}/pwm1') * RPM_PER_PWM)

    def _is_gated(self, zone: ZoneDefinition) -> bool:
        return zone.of_gpu and self._board.gpu.gated == 'all' and self._gpu_is_off

    def _gate(self, path: str, is_off: bool) -> None:
        """Let reads of a file fail, or no longer."""
        full = self._root / path
        if is_off and not full.is_symlink():
            gate(self._root, path)
        elif not is_off and full.is_symlink():
            full.unlink()
            self._state['shown'].pop(path, None)

    def _show_loads(self, seconds: float) -> None:
        state = self._state
        if self._board.gpu.of_name:
            self._put(f'{self._board.gpu.device}/load', round(state['gpu_load'] * 1000))
        self._put(activity_file(self._board), round(self._emc_hz / 1000 * state['emc_load']))
        self._put_stat()
        used_mb, swapped_mb = physics.memory_used_mb(
            self._board, state['memory_used'], state['gpu_load'])
        free_kb = (self._board.ram_mb - used_mb) * 1024
        swap_kb = self._board.swap_mb * 1024
        self._put('proc/meminfo', (
            f'MemTotal: {self._board.ram_mb * 1024} kB\nMemFree: {free_kb} kB\n'
            f'MemAvailable: {free_kb} kB\nCached: 0 kB\nSwapCached: 0 kB\n'
            f'SwapTotal: {swap_kb} kB\nSwapFree: {swap_kb - swapped_mb * 1024} kB'))
        self._put('proc/buddyinfo', FREE_BLOCKS)
        if seconds > 0:
            self._put('proc/uptime', f'{state["time_s"]:.2f} 0.00')

    def _put_stat(self) -> None:
        """Show the counters of busy and idle time, which never decrease."""
        state = self._state
        shown = state['shown'].setdefault('busy and total s', '0 0').split()
        busy_s, total_s = float(shown[0]), float(shown[1])
        elapsed = max(0.0, state['time_s'] - total_s)
        busy_s += elapsed * state['cpu_load']
        total_s += elapsed
        state['shown']['busy and total s'] = f'{busy_s!r} {total_s!r}'
        busy = round(busy_s * JIFFIES_PER_S)
        idle = round(total_s * JIFFIES_PER_S) - busy
        count = len(self._cores)
        lines = [f'cpu  {busy * count} 0 0 {idle * count} 0 0 0 0 0 0']
        lines += [f'cpu{core} {busy} 0 0 {idle} 0 0 0 0 0 0' for core in self._cores]
        self._put('proc/stat', '\n'.join(lines))
