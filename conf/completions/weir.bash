# Completion of weir for bash, to be installed as share/bash-completion/completions/weir.

_weir_targets() {
    # Upstreams and their backends, of a weir that runs.
    weir ctl "${_weir_where[@]}" status --json 2>/dev/null | tr '{' '\n' |
        sed -n -e 's/^"name":"\([^"]*\)","algorithm".*/U \1/p' \
            -e 's/^"name":"\([^"]*\)","address":"[^"]*","configured_weight".*/B \1/p' |
        while read -r kind name; do
            case $kind in
                U) upstream=$name; echo "$name" ;;
                B) echo "$upstream/$name" ;;
            esac
        done
}

_weir() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local verbs="status backends listeners routes sessions why top config drain disable enable weight kick
        add remove
        reload metrics ready log-level"
    local verb="" word at
    local -a _weir_where=()
    COMPREPLY=()
    case $prev in
        --last)
            COMPREPLY=($(compgen -W "5xx 4xx error slow retried any" -- "$cur"))
            return ;;
        -c | --config | -p | --pid-file | --socket)
            COMPREPLY=($(compgen -f -- "$cur"))
            return ;;
        -s)
            COMPREPLY=($(compgen -W "reload reopen upgrade quit stop" -- "$cur"))
            return ;;
    esac
    if [[ ${COMP_WORDS[1]} != ctl ]]; then
        if [[ $COMP_CWORD -eq 1 && $cur != -* ]]; then
            COMPREPLY=($(compgen -W "ctl top" -- "$cur"))
        else
            COMPREPLY=($(compgen -W "-c --config -t --test -T -q --quiet -p --pid-file -s -v --version -V -h --help \
                --workers --cpu" -- "$cur"))
        fi
        return
    fi
    for ((at = 2; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        case $word in
            -c | -p | --config | --pid-file | --socket)
                _weir_where+=("$word" "${COMP_WORDS[++at]}") ;;
            --wait | --id | --weight | --last | --listener | --backend | --max) ((at++)) ;;
            -*) ;;
            *) [[ -n $verb ]] || verb=$word ;;
        esac
    done
    if [[ $cur == -* ]]; then
        local options="--socket --pid-file --config --json --help"
        case $verb in
            drain) options+=" --wait" ;;
            add) options+=" --id --weight" ;;
            reload) options+=" --reset" ;;
            why) options+=" --last" ;;
            sessions) options+=" --listener --backend --max" ;;
        esac
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $verb in
        "") COMPREPLY=($(compgen -W "$verbs" -- "$cur")) ;;
        backends | add) COMPREPLY=($(compgen -W "$(_weir_targets | grep -v /)" -- "$cur")) ;;
        drain | disable | enable | weight | kick | remove)
            COMPREPLY=($(compgen -W "$(_weir_targets)" -- "$cur")) ;;
        log-level) COMPREPLY=($(compgen -W "error warn info debug trace" -- "$cur")) ;;
    esac
}

complete -F _weir weir
